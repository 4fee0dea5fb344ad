"""The sparse, checksummed disk format of `PUT /import_raw_vdi?format=tar` (stream_vdi.ml). Pure.

Members "vdi/%08d" of one MiB, each followed by "vdi/%08d.checksum" with the SHA-1 of its bytes in lower
case. Absent blocks are holes; the first and the last block are compulsory; numbers rise.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from typing import Final

BLOCK_BYTES: Final = 1024 * 1024
_PAD: Final = tarfile.BLOCKSIZE
# What most small disks end with, and empty ones begin with.
_EMPTY: Final = bytes(BLOCK_BYTES)
_DIGEST_OF_EMPTY: Final = hashlib.sha1(_EMPTY, usedforsecurity=False).hexdigest()


def blocks(data: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, bytes | bytearray]]:
    """Cut (offset, bytes) pieces into numbered blocks; blocks of zeros are left out, ends are not.

    Raises ValueError for pieces that overlap, go back or reach beyond `size`, and for a size that is
    not made of 512-byte sectors.
    """
    if size <= 0 or size % _PAD:
        raise ValueError("a disk is made of whole sectors")
    last = (size - 1) // BLOCK_BYTES
    number, block = 0, _zeros(0, size)
    for at, piece in _split(data, size):
        wanted = at // BLOCK_BYTES
        if wanted != number:
            yield from _kept(number, block, last)
            number, block = wanted, _zeros(wanted, size)
        start = at - number * BLOCK_BYTES
        block[start : start + len(piece)] = piece
    yield from _kept(number, block, last)
    if number != last:
        yield last, _EMPTY[: size - last * BLOCK_BYTES]


def _split(data: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, bytes]]:
    """Pieces that do not cross a block's edge, checked to be in order."""
    reached = 0
    for offset, piece in data:
        if offset < reached or offset + len(piece) > size:
            raise ValueError("pieces of a disk come in order and within its size")
        reached = offset + len(piece)
        view = memoryview(piece)
        while view:
            room = BLOCK_BYTES - offset % BLOCK_BYTES
            yield offset, bytes(view[:room])
            offset, view = offset + len(view[:room]), view[room:]


def _zeros(number: int, size: int) -> bytearray:
    return bytearray(min(BLOCK_BYTES, size - number * BLOCK_BYTES))


def _is_end(number: int, last: int) -> bool:
    return number in (0, last)


def _kept(number: int, block: bytearray, last: int) -> Iterator[tuple[int, bytearray]]:
    if _is_end(number, last) or any(block):
        yield number, block


def encoded(data: Iterable[tuple[int, bytes]], size: int) -> Iterator[bytes | bytearray]:
    """The whole stream, piece by piece. There is no end-of-archive mark: the size is the end."""
    for number, block in blocks(data, size):
        name, digest = f"vdi/{number:08d}", _digest_of(block).encode()
        yield _header(name, len(block))
        yield block  # whole sectors: nothing is padded
        yield _header(f"{name}.checksum", len(digest)) + digest.ljust(_PAD, b"\0")


def _digest_of(block: bytes | bytearray) -> str:
    if block is _EMPTY:
        return _DIGEST_OF_EMPTY
    return hashlib.sha1(block, usedforsecurity=False).hexdigest()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)
