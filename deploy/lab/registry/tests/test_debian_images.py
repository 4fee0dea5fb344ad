"""Images of Debian's packages are sound: their programs run, and skopeo reads them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.lab.registry.debian_images import NAMES, TAG, load, make, what_is_missing

pytestmark = [
    pytest.mark.skipif(bool(what_is_missing()), reason=f"no Debian images: {what_is_missing()}"),
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first time, packages are fetched
]


def in_root(root: Path, *command: str) -> str:
    """What `command` says in the image's files, without a network, a /proc or other processes."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "chroot", str(root), *command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env={
            "PATH": "/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin",
            "PGDATA": "/tmp/volume/cluster",
        }
        | {"POSTGRES_PASSWORD": "for tests only"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return load(make(request.param), tmp_path / "bundle")


@pytest.mark.parametrize("name", NAMES)
def test_skopeo_reads_it_and_it_is_not_made_twice(name: str) -> None:
    layout = make(name)
    told = layout.stat()
    assert make(name) == layout
    assert layout.stat() == told
    done = subprocess.run(
        ["skopeo", "inspect", f"oci:{layout}:{TAG}"], check=True, capture_output=True, timeout=60
    )
    said = json.loads(done.stdout)
    assert said["Os"] == "linux"
    assert len(said["Layers"]) == 2


@pytest.mark.parametrize(
    ("root", "command", "said"),
    [
        ("busybox", ["sh", "-c", "echo $((6 * 7)) | cat"], "42"),
        ("redis", ["redis-server", "--version"], "Redis server v="),
        (
            "python",
            ["sh", "-c", "exec python3 -c 'import ssl, sqlite3, http.server; print(42)'"],
            "42",
        ),
    ],
    indirect=["root"],
)
def test_its_program_runs(root: Path, command: list[str], said: str) -> None:
    assert in_root(root, *command).startswith(said)


@pytest.mark.parametrize("root", ["nginx"], indirect=True)
def test_nginx_runs_and_takes_its_configuration(root: Path) -> None:
    # There is no /dev/stderr in here.
    for log in ("access.log", "error.log"):
        (root / "var/log/nginx" / log).unlink()
    assert in_root(root, "nginx", "-v").startswith("nginx version: nginx/1.")
    assert "test is successful" in in_root(root, "nginx", "-t")


@pytest.mark.parametrize("root", ["postgres"], indirect=True)
def test_postgres_makes_its_cluster_at_the_first_start_and_keeps_it(root: Path) -> None:
    (root / "dev/null").write_bytes(b"")
    (root / "dev/null").chmod(0o666)
    (root / "dev/shm").mkdir()
    (root / "dev/shm").chmod(0o1777)
    ask = ["/usr/local/bin/docker-entrypoint.sh", "postgres", "-C", "data_directory"]
    left = root / "tmp/volume/cluster.new"
    left.mkdir(parents=True)
    os.chown(left, 999, 999)
    (left / "PG_VERSION").write_text("of an interrupted start")
    assert in_root(root, *ask).endswith("/tmp/volume/cluster\n")
    cluster = root / "tmp/volume/cluster"
    assert (cluster / "PG_VERSION").read_text() == "15\n"
    assert cluster.stat().st_uid == 999
    assert not left.exists()
    assert in_root(root, *ask) == "/tmp/volume/cluster\n"
