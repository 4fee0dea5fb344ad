"""Layers as they come: packed in several ways, cut, spoilt, or not what they should be."""

import gzip
import io
import os
import tarfile
from contextlib import suppress
from datetime import timedelta

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from worker.images.archive import Room, unpack
from worker.images.deadline import Deadline
from worker.images.errors import DigestMismatch, ImageError, LayerMalformed, TookTooLong, TooLarge
from worker.images.records import Layer, Limits
from worker.images.tar import LONGEST_HEADER, members
from worker.images.tests.crafting import NEVER, Shelf, folder, member, sha256, spooled, tar

ARCHIVE = tar(folder("d"), member("d/f", data=b"content" * 1000), member("g"))


def unpacked(blob: bytes, layer: Layer | None = None) -> bytes:
    layer = layer or Shelf().put(ARCHIVE, blob)
    into = io.BytesIO()
    unpack(layer, io.BytesIO(blob), into, Limits(), Room(Limits()), NEVER)
    return into.getvalue()


@pytest.mark.parametrize(
    "blob",
    [
        ARCHIVE,
        gzip.compress(ARCHIVE),
        gzip.compress(ARCHIVE[:700]) + gzip.compress(ARCHIVE[700:]),
        gzip.compress(ARCHIVE) + bytes(512),
        zstandard.compress(ARCHIVE),
        zstandard.compress(ARCHIVE[:700]) + zstandard.compress(ARCHIVE[700:]),
        # A skippable frame first, as "zstd:chunked" has them last.
        zstandard.compress(ARCHIVE) + b"\x50\x2a\x4d\x18\x04\0\0\0abcd",
    ],
    ids=["plain", "gzip", "gzip-members", "gzip-padded", "zstd", "zstd-frames", "zstd-chunked"],
)
def test_it_unpacks_what_registries_have(blob: bytes) -> None:
    assert unpacked(blob) == ARCHIVE


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("cut", [1, 20, -1, -9])
def test_a_blob_cut_short_is_refused(pack: object, cut: int) -> None:
    assert callable(pack)
    with pytest.raises((LayerMalformed, DigestMismatch)):
        unpacked(pack(ARCHIVE)[:cut])


def test_a_blob_of_another_archive_than_the_configuration_says_is_refused() -> None:
    other = gzip.compress(tar(member("other")))
    with pytest.raises(DigestMismatch):
        unpacked(other, Shelf().put(ARCHIVE, other))


def test_a_blob_with_rubbish_behind_it_is_refused() -> None:
    with pytest.raises(LayerMalformed):
        unpacked(gzip.compress(ARCHIVE) + b"rubbish")


def test_unpacking_stops_soon_after_its_limit() -> None:
    archive = bytes(8 * 1024**2)
    layer = Shelf().put(archive)
    into = io.BytesIO()
    room = Room(Limits(unpacked_bytes=1024**2))
    with pytest.raises(TooLarge):
        unpack(layer, io.BytesIO(gzip.compress(archive)), into, Limits(), room, NEVER)
    assert len(into.getvalue()) <= 1024**2


def test_unpacking_stops_when_time_is_over() -> None:
    clock = iter([0.0, 0.5, 1.5])
    deadline = Deadline(timedelta(seconds=1), clock=lambda: next(clock))
    archive = bytes(4 * 1024**2)
    layer, into, blob = Shelf().put(archive), io.BytesIO(), gzip.compress(archive)
    with pytest.raises(TookTooLong):
        unpack(layer, io.BytesIO(blob), into, Limits(), Room(Limits()), deadline)


@given(st.binary(max_size=200))
def test_any_bytes_unpack_or_are_refused(rubbish: bytes) -> None:
    layer = Layer(Shelf().put(b"", rubbish).blob, sha256(rubbish))
    plain = not rubbish.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
    if plain:
        assert unpacked(rubbish, layer) == rubbish
    else:
        with pytest.raises(ImageError):
            unpacked(rubbish, layer)


# -------------------------------------------------------------------------------------------------- members


def names(archive: bytes) -> list[str]:
    return [os.fsdecode(one.name) for one in members(spooled(archive))]


@pytest.mark.parametrize("archive", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_an_empty_layer_has_no_members(archive: bytes) -> None:
    assert names(archive) == []


def test_an_archive_without_its_end_mark_is_read() -> None:
    whole = tar(member("a", data=b"x" * 512), member("b"))
    assert names(whole[: 512 * 3]) == ["a", "b"]


@pytest.mark.parametrize("cut", [100, 511, 512 + 100, 512 * 2 + 3])
def test_an_archive_that_ends_in_the_middle_is_refused(cut: int) -> None:
    whole = tar(member("a", data=b"x" * 600), member("b"))
    with pytest.raises(LayerMalformed):
        names(whole[:cut])


def test_a_spoilt_header_in_the_middle_is_no_end() -> None:
    whole = bytearray(tar(member("a"), member("b"), member("c")))
    whole[512] ^= 1
    with pytest.raises(LayerMalformed):
        names(bytes(whole))


def test_names_that_are_long_strange_or_not_unicode_are_read() -> None:
    wanted = ["a/" * 120 + "f", "ü", "line\nbreak", "\udcff\udcfe", " ", "."]
    assert names(tar(*[member(one) for one in wanted])) == wanted


def test_gnus_own_long_names_are_read() -> None:
    buffer = io.BytesIO()
    long = "d/" * 200 + "f"
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(long))
    assert names(buffer.getvalue()) == [long]


def test_headers_without_end_are_refused_before_they_are_read() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, LONGEST_HEADER + 1
    with pytest.raises(TooLarge):
        names(header.tobuf() + bytes(1024))


def test_headers_about_headers_about_headers_are_refused() -> None:
    one = tarfile.TarInfo("././@PaxHeader")
    one.type, one.size = tarfile.XHDTYPE, 512
    pair = one.tobuf(tarfile.USTAR_FORMAT) + b"11 path=ab\n".ljust(512, b"\0")
    with pytest.raises(ImageError):
        names(pair * 1500)


@given(st.data())
def test_any_spoilt_archive_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(tar(member("a", data=b"x" * 600), member("b" * 150), folder("c")))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(LayerMalformed, TooLarge):
        names(bytes(whole))
