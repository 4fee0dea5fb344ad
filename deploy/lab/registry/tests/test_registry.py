"""The lab's registry, asked as a client asks: over HTTP."""

import base64
import hashlib
import http.client
import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.lab.registry.access import Access
from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import IMAGES, INDEX, MANIFEST, archive_of, demonstration
from deploy.lab.registry.server import serving


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


def ask(authority: str, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(authority, timeout=10)
    try:
        connection.request(method, path, headers={key.title(): one for key, one in headers.items()})
        response = connection.getresponse()
        names = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Registry, str]]:
    registry = Registry(demonstration())
    with serving(registry) as authority:
        yield registry, authority


@pytest.fixture
def registry(served: tuple[Registry, str]) -> Registry:
    served[0].access = Access()
    served[0].faults.clear()
    return served[0]


@pytest.fixture
def authority(served: tuple[Registry, str], registry: Registry) -> str:
    return served[1]


@pytest.fixture
def blob(registry: Registry) -> tuple[str, bytes]:
    """A blob's path and bytes."""
    digest, body = next(iter(registry.store.blobs.items()))
    return f"/v2/web/blobs/{digest}", body


def test_the_same_files_make_the_same_images() -> None:
    first, second = demonstration(), demonstration()
    assert (first.blobs, first.manifests) == (second.blobs, second.manifests)


def test_layers_do_not_depend_on_when_or_by_whom_they_were_checked_out() -> None:
    archive = archive_of(IMAGES / "web" / "layers" / "0-base")
    with tarfile.open(fileobj=io.BytesIO(archive)) as reader:
        assert {(one.mtime, one.uid, one.uname) for one in reader} == {(0, 0, "")}
        assert reader.getmember("bin/serve").mode == 0o755
        assert reader.getmember("etc/passwd").mode == 0o644


def test_it_says_that_it_speaks_version_2(authority: str) -> None:
    answer = ask(authority, "/v2/")
    assert answer.status == 200
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_it_lists_what_it_has(authority: str) -> None:
    assert ask(authority, "/v2/_catalog").json() == {"repositories": ["web", "worker"]}
    assert ask(authority, "/v2/web/tags/list").json() == {"name": "web", "tags": ["1.0", "latest"]}
    assert ask(authority, "/v2/none/tags/list").status == 404


@pytest.mark.parametrize(("name", "kind"), [("web", INDEX), ("worker", MANIFEST)])
def test_a_manifest_is_had_by_tag_and_by_digest(authority: str, name: str, kind: str) -> None:
    by_tag = ask(authority, f"/v2/{name}/manifests/latest")
    digest = by_tag.headers["docker-content-digest"]
    assert by_tag.headers["content-type"] == kind
    assert digest == f"sha256:{hashlib.sha256(by_tag.body).hexdigest()}"
    assert ask(authority, f"/v2/{name}/manifests/{digest}").body == by_tag.body


def test_every_descriptor_leads_to_bytes_of_its_size_and_digest(
    authority: str, registry: Registry
) -> None:
    for (name, _), (kind, body) in registry.store.manifests.items():
        document = json.loads(body)
        entries = (
            document["manifests"] if kind == INDEX else [document["config"], *document["layers"]]
        )
        for entry in entries:
            folder = "manifests" if kind == INDEX else "blobs"
            found = ask(authority, f"/v2/{name}/{folder}/{entry['digest']}").body
            assert len(found) == entry["size"]
            assert f"sha256:{hashlib.sha256(found).hexdigest()}" == entry["digest"]


def test_head_gives_the_headers_alone(authority: str, blob: tuple[str, bytes]) -> None:
    path, body = blob
    answer = ask(authority, path, "HEAD")
    assert answer.body == b""
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["docker-content-digest"] in path


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=5-", 206, 5, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=0-999999", 206, 0, None),
        ("bytes=9-5", 200, 0, None),
        ("lines=1-2", 200, 0, None),
    ],
)
def test_a_part_of_a_blob_can_be_had(
    authority: str,
    blob: tuple[str, bytes],
    asked: str,
    status: int,
    start: int,
    stop: int | None,
) -> None:
    path, body = blob
    answer = ask(authority, path, range=asked)
    assert (answer.status, answer.body) == (status, body[start:stop])
    if status == 206:
        first = start % len(body)
        last = first + len(answer.body) - 1
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(body)}"


def test_a_part_behind_the_end_is_not_there(authority: str, blob: tuple[str, bytes]) -> None:
    path, body = blob
    answer = ask(authority, path, range=f"bytes={len(body)}-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(body)}"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/web/manifests/none", "MANIFEST_UNKNOWN"),
        ("/v2/none/manifests/latest", "MANIFEST_UNKNOWN"),
        ("/v2/web/blobs/sha256:0", "BLOB_UNKNOWN"),
    ],
)
def test_what_is_not_there_is_said_in_the_specifications_words(
    authority: str, path: str, code: str
) -> None:
    answer = ask(authority, path)
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"] == code


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_nothing_can_be_changed(authority: str, method: str) -> None:
    assert ask(authority, "/v2/web/manifests/latest", method).status == 405


def basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def test_a_token_is_for_one_repository(authority: str, registry: Registry) -> None:
    registry.access = Access("token", "user", "password")
    refused = ask(authority, "/v2/web/manifests/latest")
    assert refused.status == 401
    assert f'realm="http://{authority}/token"' in refused.headers["www-authenticate"]
    where = "/token?service=lab&scope=repository:web:pull"
    assert ask(authority, where, authorization=basic("user:wrong")).status == 401
    token = ask(authority, where, authorization=basic("user:password")).json()["token"]
    bearer = f"Bearer {token}"
    assert ask(authority, "/v2/web/manifests/latest", authorization=bearer).status == 200
    assert ask(authority, "/v2/worker/manifests/latest", authorization=bearer).status == 401


@pytest.mark.parametrize("shown", ["", "Basic", "Basic !!", "Bearer x", basic("user:no")])
def test_a_wrong_password_does_not_open(authority: str, registry: Registry, shown: str) -> None:
    registry.access = Access("basic", "user", "password")
    assert ask(authority, "/v2/", authorization=shown).status == 401


def test_a_fault_comes_so_often_as_it_was_told_to(authority: str, registry: Registry) -> None:
    registry.faults.add("tags/list", "status", status=500, times=2)
    answers = [ask(authority, "/v2/web/tags/list").status for _ in range(3)]
    assert answers == [500, 500, 200]


# ------------------------------------------------------------------------------------------- as a process


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deploy.lab.registry", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_when_asked(
    tmp_path: Path, number: signal.Signals
) -> None:
    secret = tmp_path / "password"
    secret.write_text("user:password\n")
    with start("--password-file", str(secret)) as process:
        assert process.stdout is not None
        word, _, rest = process.stdout.readline().partition(" ")
        told = json.loads(rest)
        assert word == "ready"
        assert f"{told['registry']}/web:latest" in told["images"]
        assert ask(told["registry"], "/v2/").status == 401
        process.send_signal(number)
        assert process.wait(20) == 0


def test_a_password_file_without_a_password_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("nobody\n")
    with start("--password-file", str(secret)) as process:
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "name:password" in said
