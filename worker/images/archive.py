"""From a layer as the registry keeps it to the tar archive inside."""

import gzip
import hashlib
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, BinaryIO, Final, cast

import zstandard
from isal import igzip, isal_zlib

from worker.images.deadline import Deadline
from worker.images.errors import DigestMismatch, LayerMalformed, TooLarge
from worker.images.records import MIB, Layer, Limits

CHUNK_BYTES: Final = MIB
RATIO_FROM_BYTES: Final = 16 * MIB
"""Below this even a layer of nothing but zeros is harmless."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
_ISAL_ERROR: Final = cast("type[Exception]", isal_zlib.IsalError)
_ZSTD_WINDOW: Final = 32 * MIB
"""RFC 8878 asks readers for 8 MiB at least, and writers may use more. Each reader holds as much in memory."""


class Room:
    """How many bytes an image's archives may still have, whichever threads unpack them."""

    def __init__(self, limits: Limits) -> None:
        self._limit = self._left = limits.unpacked_bytes
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises TooLarge, before the bytes are written."""
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise TooLarge(f"Unpacked, the image is larger than {self._limit} bytes.")


def unpack(
    layer: Layer, packed: BinaryIO, into: BinaryIO, limits: Limits, room: Room, deadline: Deadline
) -> None:
    """Write the tar archive inside a layer's blob.

    What it is packed with is read off its first bytes, as Docker does. One thread unpacks, another writes and
    hashes. Raises DigestMismatch when the archive is not the configuration's, LayerMalformed, TooLarge,
    TookTooLong.
    """
    check = hashlib.new(layer.diff_id.partition(":")[0])
    by_ratio = max(RATIO_FROM_BYTES, limits.ratio * layer.blob.size)

    def keep(chunk: bytes) -> None:
        check.update(chunk)
        into.write(chunk)

    size = 0
    with ThreadPoolExecutor(1) as behind:
        kept: Future[None] | None = None
        for chunk in _unpacked(packed):
            deadline.check()
            size += len(chunk)
            if size > by_ratio:
                raise TooLarge(f"One of the image's layers grows more than {limits.ratio} times.")
            room.take(len(chunk))
            if kept is not None:
                kept.result()
            kept = behind.submit(keep, chunk)
        if kept is not None:
            kept.result()
    into.flush()
    if check.hexdigest() != layer.diff_id.partition(":")[2]:
        raise DigestMismatch(digest=layer.diff_id, found=check.hexdigest())


def _unpacked(packed: BinaryIO) -> Iterator[bytes]:
    packed.seek(0)
    first = packed.read(4)
    packed.seek(0)
    try:
        stream = _opened(packed, first)
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error, _ISAL_ERROR, zstandard.ZstdError) as error:
        raise LayerMalformed("One of the image's layers does not unpack.") from error


def _opened(packed: BinaryIO, first: bytes) -> IO[bytes]:
    if first.startswith(_GZIP):
        return cast("IO[bytes]", igzip.IGzipFile(fileobj=packed))  # type: ignore[no-untyped-call]
    if first.startswith(_ZSTD) or (first[1:] == _SKIPPABLE and first[0] >> 4 == 5):
        reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        return cast(
            "IO[bytes]", reader.stream_reader(packed, read_across_frames=True, closefd=False)
        )
    return packed
