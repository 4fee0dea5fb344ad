"""Against Debian's `docker-registry`, filled by `skopeo`."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.lab.registry.app import Registry
from worker.images import Credentials, Images, Platform, Reference
from worker.images.errors import ImageUnknown, PullRefused

PASSWORD = "for tests only"
# `htpasswd -nbB tenant "for tests only"`
HTPASSWD = "tenant:$2b$05$RVjIpH4tf4TFaetvrOOWSuuoAf.o9ztU5MqwaNZccYGPtJfnV1XMW\n"

needs_registry = pytest.mark.skipif(
    not (shutil.which("docker-registry") and shutil.which("skopeo")),
    reason="docker-registry and skopeo are not installed (apt-get install docker-registry skopeo)",
)


@contextmanager
def docker_registry(folder: Path, *, closed: bool) -> Iterator[str]:
    """Debian's, empty, on a free port: "127.0.0.1:port"."""
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}" if closed else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\n"
        f"log: {{level: info, formatter: text}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:0', secret: none}}\n{auth}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.yml")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                yield match[1]
                return
        pytest.fail("docker-registry did not start")
    finally:
        process.terminate()
        with process.stderr:
            process.wait(10)


def skopeo(*arguments: str) -> None:
    command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", *arguments]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


@needs_registry
@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_an_image_is_the_same_from_debians_registry(
    images: Images,
    authority: str,
    web: Reference,
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
) -> None:
    with docker_registry(tmp_path_factory.mktemp("registry"), closed=False) as other:
        copy = [f"docker://{authority}/web:1.0", f"docker://{other}/some/where/web:1.0"]
        every = [] if form == "v2s2" else ["--all"]
        skopeo("--dest-tls-verify=false", "--format", form, *every, *copy)
        there = Reference.parse(f"{other}/some/where/web:1.0")
        ours, theirs = images.resolve(web), images.resolve(there)
        assert theirs.config == ours.config
        assert [one.diff_id for one in theirs.layers] == [one.diff_id for one in ours.layers]
        with images.spool.file() as one, images.spool.file() as two:
            assert images.build(theirs, one) == images.build(ours, two)
            one.seek(0), two.seek(0)
            assert one.read() == two.read()
        if form == "oci":
            assert images.resolve(there, platform=Platform("arm64")).layers == ours.layers
        with pytest.raises(ImageUnknown):
            images.resolve(Reference.parse(f"{other}/some/where/web:2"))
        with pytest.raises(ImageUnknown):
            images.resolve(Reference.parse(f"{other}/none"))


@needs_registry
def test_debians_registry_wants_its_password(
    images: Images, authority: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with docker_registry(tmp_path_factory.mktemp("registry"), closed=True) as other:
        skopeo(
            "--dest-tls-verify=false",
            f"--dest-creds=tenant:{PASSWORD}",
            f"docker://{authority}/worker:2.1",
            f"docker://{other}/worker:2.1",
        )
        there = Reference.parse(f"{other}/worker:2.1")
        good = Credentials("tenant", PASSWORD)
        image = images.resolve(there, credentials=good)
        with images.spool.file() as target:
            images.build(image, target, credentials=good)
        for wrong in [None, Credentials("tenant", "wrong")]:
            with pytest.raises(PullRefused):
                images.resolve(there, credentials=wrong)


@needs_registry
def test_skopeo_pulls_from_the_labs_registry_with_a_password(
    authority: str, registry: Registry, tmp_path: Path
) -> None:
    registry.access.scheme = "token"
    registry.access.username, registry.access.password = "tenant", PASSWORD
    where = [f"docker://{authority}/web:1.0", f"oci:{tmp_path}/layout:1.0"]
    with pytest.raises(subprocess.CalledProcessError):
        skopeo(*where)
    skopeo("--all", f"--src-creds=tenant:{PASSWORD}", *where)
    blobs = {one.name for one in (tmp_path / "layout/blobs/sha256").iterdir()}
    assert {digest.partition(":")[2] for digest in registry.store.blobs} & blobs
