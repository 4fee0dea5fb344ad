"""Layers as archives: from the registry's bytes to tar, and from tar to members.

`tarfile` is used as a reader of headers alone; nothing is ever extracted by it.
"""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final, cast

import zstandard

from worker.images.deadline import Deadline
from worker.images.errors import DigestMismatch, LayerMalformed, TooLarge
from worker.images.records import MIB, Layer, Limits

CHUNK_BYTES: Final = 256 * 1024
RATIO_FROM_BYTES: Final = 16 * MIB
"""Below this even a layer of nothing but zeros is harmless."""
LONGEST_HEADER: Final = MIB
"""A member's names and attributes together."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW: Final = 128 * MIB


def unpack(
    layer: Layer, packed: BinaryIO, into: BinaryIO, limits: Limits, left: int, deadline: Deadline
) -> int:
    """Write the tar archive inside a layer's blob; its size in bytes.

    What it is packed with is read off its first bytes, as Docker does. `left` is how many bytes the
    image may still have. Raises DigestMismatch when the archive is not the configuration's, LayerMalformed,
    TooLarge.
    """
    size, check = 0, hashlib.new(layer.diff_id.partition(":")[0])
    by_ratio = max(RATIO_FROM_BYTES, limits.ratio * layer.blob.size)
    for chunk in _unpacked(packed):
        deadline.check()
        size += len(chunk)
        if size > left:
            raise TooLarge(f"Unpacked, the image is larger than {limits.unpacked_bytes} bytes.")
        if size > by_ratio:
            raise TooLarge(f"One of the image's layers grows more than {limits.ratio} times.")
        check.update(chunk)
        into.write(chunk)
    if check.hexdigest() != layer.diff_id.partition(":")[2]:
        raise DigestMismatch(digest=layer.diff_id, found=check.hexdigest())
    return size


def _unpacked(packed: BinaryIO) -> Iterator[bytes]:
    packed.seek(0)
    first = packed.read(4)
    packed.seek(0)
    try:
        stream = _opened(packed, first)
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise LayerMalformed("One of the image's layers does not unpack.") from error


def _opened(packed: BinaryIO, first: bytes) -> IO[bytes]:
    if first.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
    if first.startswith(_ZSTD):
        reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        return cast(
            "IO[bytes]", reader.stream_reader(packed, read_across_frames=True, closefd=False)
        )
    return packed


# ------------------------------------------------------------------------------------------------- members


class _Headers:
    """The archive as tarfile sees it: one member's headers may only be as long as they have reason to be.

    tarfile takes the names, attributes and map of holes of a member into memory, however long they are.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.left = LONGEST_HEADER

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise TooLarge("A file in the image has too long a name or too many attributes.")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def members(archive: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Each member of a tar archive; names that are not UTF-8 come as surrogate escapes.

    Raises LayerMalformed, also for an archive that ends in the middle, which tarfile would overlook.
    """
    size = archive.seek(0, 2)
    archive.seek(0)
    if size == 0:
        return  # some builders write an empty layer so
    headers = _Headers(archive)
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", headers),
            mode="r:",
            encoding="utf-8",
            errors="surrogateescape",
        ) as reader:
            while (member := reader.next()) is not None:
                _check_size(member, size)
                yield member
                headers.left = LONGEST_HEADER
                # tarfile would remember every member; we remember what we need.
                cast("Any", reader).members = []
            _check_end(archive, reader.offset, size)
    # ValueError, OverflowError: numbers in headers that are none, or that no file has. RecursionError:
    # headers about headers about headers.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise LayerMalformed from error


def _check_size(member: tarfile.TarInfo, archive_bytes: int) -> None:
    """A file's data are all there, and its pieces are within it, one after the other."""
    if not member.isreg():
        return
    reached = held = 0
    for at, length in pieces(member):
        if at < reached or length < 0 or at + length > member.size:
            raise LayerMalformed
        reached, held = at + length, held + length
    if member.offset_data + held > archive_bytes:
        raise LayerMalformed("One of the image's layers ends in the middle of a file.")


def _check_end(archive: BinaryIO, offset: int, size: int) -> None:
    """tarfile takes a header that it cannot read for the end; the end is a block of zeros, or nothing."""
    archive.seek(offset)
    rest = archive.read(tarfile.BLOCKSIZE)
    if rest.strip(b"\0") and offset < size:
        raise LayerMalformed


def pieces(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Where a file's data go, (offset, length) in order; between them it has holes.

    The data themselves lie one after the other in the archive, from `offset_data` on.
    """
    sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
    return [(0, member.size)] if sparse is None else sparse
