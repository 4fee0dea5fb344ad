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


def blocks(data: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, bytes]]:
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
        yield last, bytes(_zeros(last, size))


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


def _kept(number: int, block: bytearray, last: int) -> Iterator[tuple[int, bytes]]:
    if _is_end(number, last) or any(block):
        yield number, bytes(block)


def encoded(data: Iterable[tuple[int, bytes]], size: int) -> Iterator[bytes]:
    """The whole stream, member by member. There is no end-of-archive mark: the size is the end."""
    for number, block in blocks(data, size):
        yield _member(f"vdi/{number:08d}", block)
        digest = hashlib.sha1(block, usedforsecurity=False).hexdigest()
        yield _member(f"vdi/{number:08d}.checksum", digest.encode())


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    padding = b"\0" * (-len(content) % _PAD)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + padding
