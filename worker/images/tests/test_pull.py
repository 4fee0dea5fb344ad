"""From a registry, over HTTP, to a disk in a file; and every way in which that goes wrong."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from deploy.lab.registry.app import Registry
from deploy.lab.registry.build import LayerFile, add_image
from worker.images import ImageError, Images, ImageUnavailable, Limits, Reference, disk_pieces
from worker.images.errors import (
    DigestMismatch,
    ImageUnknown,
    PullRefused,
    RegistryBusy,
    RegistryFailed,
    RegistryUnreachable,
    SpoolFull,
    TookTooLong,
    TooLarge,
)
from worker.images.tests.crafting import member, tar
from worker.images.tests.reading import files


def built(images: Images, reference: Reference, limits: Limits | None = None) -> bytes:
    image = images.resolve(reference)
    with images.spool.file() as target:
        disk = images.build(image, target, limits=limits)
        target.seek(0)
        content = target.read()
    assert len(content) == disk.size_bytes
    return content


def test_the_demonstrations_image_becomes_a_disk(images: Images, worker: Reference) -> None:
    found = files(built(images, worker))
    assert list(found) == [
        b"",
        b"bin",
        b"bin/work",
        b"etc",
        b"etc/group",
        b"etc/passwd",
        b"opt",
        b"opt/tools",
        b"opt/tools/README",
        b"var",
        b"var/cache",
    ]
    assert found[b"bin/work"].permissions == 0o755


def test_the_same_image_gives_the_same_bytes(images: Images, web: Reference) -> None:
    assert built(images, web) == built(images, web)


def test_a_disks_pieces_leave_out_what_is_empty(images: Images, registry: Registry) -> None:
    with images.spool.file() as target:
        target.truncate(5 * 1024**2)
        target.seek(3 * 1024**2 + 7)
        target.write(b"x")
        assert [(at, len(data)) for at, data in disk_pieces(target, 5 * 1024**2)] == [
            (3 * 1024**2, 1024**2)
        ]


FAULTS = [
    ({"kind": "status", "status": 401}, PullRefused),
    ({"kind": "status", "status": 403}, PullRefused),
    ({"kind": "status", "status": 404}, ImageUnknown),
    ({"kind": "status", "status": 418}, RegistryFailed),
    ({"kind": "status", "status": 429}, RegistryBusy),
    ({"kind": "status", "status": 500}, RegistryFailed),
    ({"kind": "status", "status": 204}, RegistryFailed),
    ({"kind": "cut"}, RegistryUnreachable),
    ({"kind": "redirect", "status": 307, "to": "/v2/"}, ImageError),
]


@pytest.mark.parametrize("path", ["manifests/", "blobs/"])
@pytest.mark.parametrize(("fault", "error"), FAULTS)
def test_a_registrys_fault_is_named_when_resolving(
    images: Images,
    web: Reference,
    registry: Registry,
    path: str,
    fault: dict[str, object],
    error: type[ImageError],
) -> None:
    registry.faults.add(path, **fault)  # type: ignore[arg-type]
    with pytest.raises(error):
        images.resolve(web)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        *FAULTS,
        ({"kind": "wrong_bytes"}, DigestMismatch),
        ({"kind": "endless"}, DigestMismatch),
    ],
)
@pytest.mark.parametrize("which", [0, -1])
def test_a_registrys_fault_at_a_layer_is_named_and_leaves_nothing(
    images: Images,
    worker: Reference,
    registry: Registry,
    which: int,
    fault: dict[str, object],
    error: type[ImageError],
) -> None:
    image = images.resolve(worker)
    registry.faults.add(image.layers[which].blob.digest, **fault)  # type: ignore[arg-type]
    open_before = open_files()
    with images.spool.file() as target, pytest.raises(error):
        images.build(image, target)
    assert list(images.spool.folder.iterdir()) == []
    assert open_files() <= open_before


@pytest.mark.parametrize(("path", "error"), [("manifests/", TooLarge), ("blobs/", DigestMismatch)])
def test_a_body_without_end_is_cut_off(
    images: Images, web: Reference, registry: Registry, path: str, error: type[ImageError]
) -> None:
    registry.faults.add(path, "endless")
    with pytest.raises(error):
        images.resolve(web)


def test_a_token_answer_without_end_is_cut_off(
    images: Images, web: Reference, registry: Registry
) -> None:
    registry.access.scheme = "token"
    registry.faults.add("/token", "endless")
    with pytest.raises(TooLarge):
        images.resolve(web)


def test_it_tells_how_long_the_registry_wants_to_be_left_alone(
    images: Images, web: Reference, registry: Registry
) -> None:
    registry.faults.add("manifests", "status", status=429, headers={"Retry-After": "30"})
    with pytest.raises(RegistryBusy) as caught:
        images.resolve(web)
    assert caught.value.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize("said", ["", "soon", "-1", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_wish_that_is_no_number_is_none(
    images: Images, web: Reference, registry: Registry, said: str
) -> None:
    headers = {"Retry-After": said} if said.isascii() else {}
    registry.faults.add("manifests", "status", status=429, headers=headers)
    with pytest.raises(RegistryBusy) as caught:
        images.resolve(web)
    assert caught.value.retry_after is None


def test_nobody_at_the_port_is_unreachable_and_may_pass(images: Images) -> None:
    with pytest.raises(RegistryUnreachable) as caught:
        images.resolve(Reference.parse("127.0.0.1:1/web"))
    assert isinstance(caught.value, ImageUnavailable)


def test_time_runs_out(images: Images, web: Reference) -> None:
    image = images.resolve(web)
    with images.spool.file() as target, pytest.raises(TookTooLong):
        images.build(image, target, limits=Limits(duration=timedelta(0)))


@pytest.mark.parametrize(
    "limits",
    [
        Limits(unpacked_bytes=30_000),
        Limits(entries=9),
        Limits(disk_bytes=4096),
        Limits(depth=2),
    ],
)
def test_each_limit_ends_the_build_and_leaves_nothing(
    images: Images, worker: Reference, limits: Limits
) -> None:
    image = images.resolve(worker)
    with images.spool.file() as target, pytest.raises(TooLarge):
        images.build(image, target, limits=limits)
    assert list(images.spool.folder.iterdir()) == []


def test_a_layer_that_grows_too_much_is_stopped(
    images: Images, authority: str, registry: Registry
) -> None:
    archive = tar(member("zeros", data=bytes(40 * 1024**2)))
    layer = LayerFile.gzipped(archive)
    add_image(registry.store, "bomb", [layer], config={}, tags=["1"], architectures=["amd64"])
    reference = Reference.parse(f"{authority}/bomb:1")
    with pytest.raises(TooLarge, match="grows"):
        built(images, reference, Limits(ratio=10))
    assert built(images, reference, Limits(ratio=2000))


class Full(FileIO):
    """A disk without room: it takes a size, as a sparse file does, and no byte."""

    def truncate(self, size: int | None = None) -> int:
        return size or 0


def test_a_full_spool_is_our_own_trouble_and_passes(images: Images, web: Reference) -> None:
    image = images.resolve(web)
    with Full("/dev/full", "wb") as full, pytest.raises(SpoolFull) as caught:
        images.build(image, cast("BinaryIO", full))
    assert isinstance(caught.value, ImageUnavailable)


def test_a_layer_that_comes_twice_is_pulled_once(
    images: Images, authority: str, registry: Registry
) -> None:
    layer = LayerFile.plain(tar(member("a", data=b"1")))
    add_image(registry.store, "twice", [layer] * 3, config={}, tags=["1"], architectures=["amd64"])
    built(images, Reference.parse(f"{authority}/twice:1"))
    pulled = [path for path, _ in registry.seen if path.endswith(f"blobs/{digest_of(layer.blob)}")]
    assert len(pulled) == 1


@pytest.mark.parametrize("pack", [LayerFile.gzipped, LayerFile.plain])
def test_layers_with_nothing_in_them_add_nothing(
    images: Images, authority: str, registry: Registry, pack: Callable[[bytes], LayerFile]
) -> None:
    """As Docker writes them for lines of a Dockerfile that change no file."""
    files, empty = pack(tar(member("a", data=b"1"))), pack(bytes(1024))
    for name, layers in {"with": [empty, files, empty], "without": [files]}.items():
        add_image(registry.store, name, layers, config={}, tags=["1"], architectures=["amd64"])
    ours, theirs = (Reference.parse(f"{authority}/{name}:1") for name in ("with", "without"))
    assert len(images.resolve(ours).layers) == 3
    assert built(images, ours)
    assert len(built(images, ours)) == len(built(images, theirs))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def open_files() -> int:
    """Files without a name that this process holds."""
    count = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder's own descriptor is gone by now
            count += "(deleted)" in str(one.readlink())
    return count
