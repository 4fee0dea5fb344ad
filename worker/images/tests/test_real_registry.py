"""Against Debian's `docker-registry`, filled by `skopeo`."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.lab.registry.app import Registry
from deploy.lab.registry.debian_images import NAMES, make, push, what_is_missing
from worker.images import Credentials, Images, Limits, Platform, Reference
from worker.images.cache import BlobCache
from worker.images.errors import ImageUnknown, PullRefused, RegistryUnreachable
from worker.images.http import Response
from worker.images.mirrors import Mirrors
from worker.images.registry import Repository
from worker.images.tests.docker_registry import PASSWORD, docker_registry
from worker.images.ways import Ways

needs_registry = pytest.mark.skipif(
    not (shutil.which("docker-registry") and shutil.which("skopeo")),
    reason="docker-registry and skopeo are not installed (apt-get install docker-registry skopeo)",
)


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


# ------------------------------------------------------------------- images of Debian's programs, all the way

needs_images = pytest.mark.skipif(
    bool(what_is_missing()), reason=f"no Debian images: {what_is_missing()}"
)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's registry with its password, and an image of each program in it."""
    with docker_registry(tmp_path_factory.mktemp("stocked"), closed=True) as where:
        for name in NAMES:
            push(make(name), f"{where}/debian/{name}:latest", f"--dest-creds=tenant:{PASSWORD}")
        yield where


@needs_registry
@needs_images
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_images_of_debians_programs_are_pulled_once_and_for_who_may(
    images: Images, stocked: str, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    ours = replace(images, ways=Ways(cache=BlobCache(tmp_path_factory.mktemp("cache"))))
    reference, good = Reference.parse(f"{stocked}/debian/{name}"), Credentials("tenant", PASSWORD)
    image = ours.resolve(reference, credentials=good)
    assert len(image.layers) == 2
    assert image.config.argv
    disks = []
    for _ in range(2):
        with ours.spool.file() as target:
            disks.append(ours.build(image, target, credentials=good))
    assert disks[0] == disks[1]
    for wrong in (None, Credentials("tenant", "wrong")):
        with pytest.raises(PullRefused):
            ours.resolve(image.reference, credentials=wrong)
        with ours.spool.file() as target, pytest.raises(PullRefused):
            ours.build(image, target, credentials=wrong)


@needs_registry
@needs_images
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_debians_registry_goes_on_where_a_transfer_broke(
    images: Images, stocked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Credentials("tenant", PASSWORD)
    image = images.resolve(Reference.parse(f"{stocked}/debian/python"), credentials=good)
    blob = image.layers[0].blob
    whole, told = Response.chunks, list[tuple[int, str]]()

    def breaking(self: Response) -> Iterator[bytes]:
        told.append((self.status, self.header("Content-Range")))
        for number, chunk in enumerate(whole(self)):
            if number == 3 and len(told) < 4:
                raise RegistryUnreachable("broken on purpose")
            yield chunk

    monkeypatch.setattr(Response, "chunks", breaking)
    ways = Ways(pause=lambda seconds: None)
    with (
        Repository(image.reference, good, images.reach, Limits(), ways) as repository,
        images.spool.file() as into,
    ):
        repository.pull(blob, into)
        assert into.tell() == blob.size
    assert [status for status, _ in told] == [200, 206, 206, 206]
    assert told[-1][1].endswith(f"-{blob.size - 1}/{blob.size}")


@needs_registry
def test_debians_registry_is_a_mirror(
    images: Images, authority: str, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with docker_registry(tmp_path_factory.mktemp("mirror"), closed=False) as mirror:
        skopeo(
            "--dest-tls-verify=false",
            "--all",
            f"docker://{authority}/web:1.0",
            f"docker://{mirror}/hub/web:1.0",
        )
        mirrors = Mirrors.parse([f"{authority}=http://{mirror}/hub"])
        ours = replace(images, ways=Ways(mirrors))
        registry.seen.clear()
        image = ours.resolve(Reference.parse(f"{authority}/web:1.0"))
        with ours.spool.file() as target:
            ours.build(image, target)
    assert {said[":method"] for _, said in registry.seen} == {"HEAD"}
