"""A disk as a tar stream: numbered blocks of 1 MiB, each followed by its checksum (XAPI.md 2.3).

Facts: xen-api stream_vdi.ml. Members are `vdi/00000000`, then `vdi/00000000.checksum` (SHA-1) or
`.xxhash` (XXH64); absent blocks are holes; the first and the last block are always there.
"""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol

import xxhash

CHUNK = 1024**2
PREFIX = "vdi"
_RECORD = 512
_LARGEST_BLOCK = 64 * CHUNK


class StreamError(Exception):
    """The stream is not what it should be; the text is the daemon's own exception."""


class Reader(Protocol):
    async def readexactly(self, n: int, /) -> bytes: ...


async def receive(reader: Reader, size: int, write: Callable[[int, bytes], None]) -> None:
    """Read a disk of `size` bytes, handing each block to `write(offset, data)`.

    Raises StreamError, and IncompleteReadError when the stream ends too early.
    """
    offset, first, last_number, last_suffix = 0, 0, -1, "-1"
    while offset < size:
        name, length = await _header(reader)
        first = first or length
        number, suffix = _number(name, last_suffix)
        offset += first * (number - last_number - 1)
        data = await reader.readexactly(length)
        await _skip_padding(reader, length)
        write(offset, data)
        await _check(reader, name, data)
        offset, last_number, last_suffix = offset + length, number, suffix


def _number(name: str, last_suffix: str) -> tuple[int, str]:
    if not name.startswith(PREFIX):
        raise StreamError('Stream_vdi.Failure("Invalid XVA file")')
    suffix = name[len(PREFIX) + 1 :]
    if suffix <= last_suffix:
        raise StreamError('Stream_vdi.Failure("Invalid XVA file")')
    if not suffix.isdecimal():
        raise StreamError('Failure("int_of_string")')
    return int(suffix), suffix


async def _header(reader: Reader) -> tuple[str, int]:
    record = await reader.readexactly(_RECORD)
    if not record.strip(b"\0"):
        second = await reader.readexactly(_RECORD)
        if not second.strip(b"\0"):
            raise StreamError("Tar.Header.End_of_stream")
        record = second
    try:
        member = tarfile.TarInfo.frombuf(record, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise StreamError("Tar.Header.Checksum_mismatch") from None
    if member.size > _LARGEST_BLOCK:
        raise StreamError("Out_of_memory")
    return member.name, member.size


async def _skip_padding(reader: Reader, length: int) -> None:
    await reader.readexactly(-length % _RECORD)


async def _check(reader: Reader, name: str, data: bytes) -> None:
    """Read the block's checksum and compare it."""
    found, length = await _header(reader)
    stem, _, kind = found.rpartition(".")
    computed = _CHECKSUMS.get(kind)
    if computed is None:
        text = f"Expected to find an inline checksum, found file called: {found}"
        raise StreamError(f'Stream_vdi.Failure("{text}")')
    told = (await reader.readexactly(length)).decode("latin-1")
    await _skip_padding(reader, length)
    if stem != name:
        raise StreamError("Not_found")
    if told != computed(data):
        text = f"Block {name} checksum failed: original = {told}; recomputed = {computed(data)}"
        raise StreamError(f'Stream_vdi.Invalid_checksum("{text}")')


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _xxh64(data: bytes) -> str:
    return f"{xxhash.xxh64_intdigest(data):016X}"


_CHECKSUMS: dict[str, Callable[[bytes], str]] = {"checksum": _sha1, "xxhash": _xxh64}


async def send(
    size: int, used: Iterable[int], read: Callable[[int, int], bytes]
) -> AsyncIterator[bytes]:
    """The stream of a disk of `size` bytes; `used` are the numbers of chunks with data."""
    last = (size - 1) // CHUNK
    for number in sorted({0, last, *used}):
        offset = number * CHUNK
        data = read(offset, min(CHUNK, size - offset))
        if data.strip(b"\0") or number in (0, last):
            for piece in _block(number, data):
                yield piece
            await asyncio.sleep(0)
    yield bytes(2 * _RECORD)


def _block(number: int, data: bytes) -> Iterator[bytes]:
    name = f"{PREFIX}/{number:08d}"
    for member, content in ((name, data), (f"{name}.xxhash", _xxh64(data).encode())):
        header = tarfile.TarInfo(member)
        header.size = len(content)
        yield header.tobuf(tarfile.USTAR_FORMAT)
        yield content
        yield bytes(-len(content) % _RECORD)
