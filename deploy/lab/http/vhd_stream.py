"""A disk as a VHD file, fixed or dynamic (Microsoft's VHD format 1.0), read and written in order."""

from __future__ import annotations

import struct
import uuid
from collections.abc import AsyncIterator, Callable, Iterable

from deploy.lab.http.tar_stream import Reader, StreamError

BLOCK = 2 * 1024**2
SECTOR = 512
LARGEST = 2040 * 1024**3
"""Bytes; a VHD cannot be larger."""
_FIXED, _DYNAMIC = 2, 3
_UNUSED = 0xFFFFFFFF
_BITMAP = BLOCK // SECTOR // 8
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_HEADER = struct.Struct(">8sQQIIII16sII512s192x256x")
_TABLE_OFFSET = SECTOR + 1024


def _checksum(data: bytes) -> int:
    return ~sum(data) & 0xFFFFFFFF


def _footer(size: int, kind: int) -> bytes:
    cylinders = min(size // SECTOR // (16 * 255), 65535)
    fields = [
        b"conectix",
        2,
        0x10000,
        SECTOR if kind == _DYNAMIC else 0xFFFFFFFFFFFFFFFF,
        0,
        b"tap\0",
        0x10003,
        b"\0\0\0\0",
        size,
        size,
        cylinders,
        16,
        255,
        kind,
        0,
        uuid.uuid4().bytes,
        0,
    ]
    fields[14] = _checksum(_FOOTER.pack(*fields))
    return _FOOTER.pack(*fields)


def _header(blocks: int) -> bytes:
    fields = [
        b"cxsparse",
        0xFFFFFFFFFFFFFFFF,
        _TABLE_OFFSET,
        0x10000,
        blocks,
        BLOCK,
        0,
        bytes(16),
        0,
        0,
        bytes(512),
    ]
    fields[6] = _checksum(_HEADER.pack(*fields))
    return _HEADER.pack(*fields)


async def send(
    size: int, used: Iterable[int], read: Callable[[int, int], bytes]
) -> AsyncIterator[bytes]:
    """A dynamic VHD of a disk of `size` bytes; `used` are the numbers of 2 MiB blocks with data."""
    numbers = sorted(set(used))
    blocks = -(-size // BLOCK)
    table = [_UNUSED] * (-(-blocks // (SECTOR // 4)) * (SECTOR // 4))
    place = (_TABLE_OFFSET + 4 * len(table)) // SECTOR
    for number in numbers:
        table[number] = place
        place += (_BITMAP + BLOCK) // SECTOR
    footer = _footer(size, _DYNAMIC)
    yield footer + _header(blocks) + struct.pack(f">{len(table)}I", *table)
    for number in numbers:
        data = read(number * BLOCK, min(BLOCK, size - number * BLOCK))
        yield b"\xff" * _BITMAP + data.ljust(BLOCK, b"\0")
    yield footer


async def receive(
    reader: Reader, length: int | None, size: int, write: Callable[[int, bytes], None]
) -> None:
    """Read a VHD of `length` bytes into a disk of `size` bytes. Raises StreamError.

    A file that does not begin with a footer is a fixed VHD: its data come first.
    """
    start = await reader.readexactly(SECTOR)
    if not start.startswith(b"conectix"):
        await _receive_fixed(reader, start, length or 0, write)
        return
    if _FOOTER.unpack(start)[13] != _DYNAMIC:
        raise StreamError("Vhd_format.Vhd.Disk_type.Unknown")
    header = _HEADER.unpack(await reader.readexactly(1024))
    position = _TABLE_OFFSET
    if header[0] != b"cxsparse" or header[5] != BLOCK:
        raise StreamError("Vhd_format.Vhd.Header")
    await _skip(reader, header[2] - position)
    entries = header[4]
    table = struct.unpack(f">{entries}I", await reader.readexactly(4 * entries))
    position = header[2] + 4 * entries
    places = sorted((place, number) for number, place in enumerate(table) if place != _UNUSED)
    for place, number in places:
        await _skip(reader, place * SECTOR - position)
        await reader.readexactly(_BITMAP)
        data = await reader.readexactly(BLOCK)
        offset = number * BLOCK
        write(offset, data[: max(0, size - offset)])
        position = place * SECTOR + _BITMAP + BLOCK
    await _skip(reader, (length or position) - position)


async def _receive_fixed(
    reader: Reader, start: bytes, length: int, write: Callable[[int, bytes], None]
) -> None:
    if length < 2 * SECTOR:
        raise StreamError("Vhd_format.Vhd.Footer")
    write(0, start)
    offset, end = SECTOR, length - SECTOR
    while offset < end:
        data = await reader.readexactly(min(BLOCK, end - offset))
        write(offset, data)
        offset += len(data)
    footer = await reader.readexactly(SECTOR)
    if not footer.startswith(b"conectix"):
        raise StreamError("Vhd_format.Vhd.Footer")


async def _skip(reader: Reader, count: int) -> None:
    if count < 0:
        raise StreamError("Vhd_format.Vhd.Bat")
    while count > 0:
        count -= len(await reader.readexactly(min(count, BLOCK)))
