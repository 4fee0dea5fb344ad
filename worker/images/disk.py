"""The disk around a root file system: a GUID partition table, and what boots, where the pool wants that.

Sources: UEFI specification 2.10, 5.2 "GPT disk layout" and 5.3 "GUID partition table disk layout".
"""

import os
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import UUID, uuid5

from worker.images.records import MIB

SECTOR: Final = 512
ROOT_NAME: Final = "bulkhead-root"
"""What the guest's init looks for."""
GRAIN: Final = 2 * MIB
"""Disks are whole multiples of what a VHD allocates at once."""
_BIOS_AT: Final = MIB
_BIOS_BYTES: Final = MIB
_ESP_AT: Final = 2 * MIB
_MBR_CODE_BYTES: Final = 440
_BIOS_BOOT: Final = UUID("21686148-6449-6e6f-744e-656564454649")
_ESP: Final = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_LINUX: Final = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_SPACE: Final = UUID("3c7c9bd5-7ad3-4f0b-9a3c-3d3b6a1c1d5e")
"""Where the identifiers of our disks and partitions come from."""
_ENTRIES: Final = 4
"""One sector of them: Linux reads all, in front and at the disk's end, page after page, before there is a partition."""
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_TABLE_SECTORS: Final = _ENTRIES * _ENTRY.size // SECTOR
_RESERVED_SECTORS: Final = 16384 // SECTOR
"""What must be kept free for a table, however few entries it has (5.3.1)."""
_VERSION: Final = re.compile(r"[A-Za-z0-9._-]{1,30}")


class BootFilesInvalid(ValueError):
    """The folder of boot files is not what `make guest` makes."""


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What makes a disk start by itself: a folder that `make guest` fills."""

    version: str
    """Another one whenever any byte is another one."""
    mbr: Path
    bios: Path
    esp: Path

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Those in `folder`. Raises BootFilesInvalid, OSError."""
        version = (folder / "version").read_text().strip()
        if not _VERSION.fullmatch(version):
            raise BootFilesInvalid(f"{folder}/version: 30 letters, digits, '.', '_' or '-' at most")
        files = cls(version, folder / "mbr.bin", folder / "bios.img", folder / "esp.img")
        if files.mbr.stat().st_size > _MBR_CODE_BYTES:
            raise BootFilesInvalid(f"{files.mbr}: more than {_MBR_CODE_BYTES} bytes")
        if files.bios.stat().st_size > _BIOS_BYTES:
            raise BootFilesInvalid(f"{files.bios}: more than {_BIOS_BYTES} bytes")
        if not files.esp.stat().st_size or files.esp.stat().st_size % MIB:
            raise BootFilesInvalid(f"{files.esp}: not a multiple of {MIB} bytes")
        return files


@dataclass(frozen=True, slots=True)
class Partition:
    """From byte `begin`, `size` bytes, both whole sectors."""

    name: str
    kind: UUID
    begin: int
    size: int


def root_at(boot: BootFiles | None) -> int:
    """The byte at which the root file system begins."""
    return _ESP_AT + boot.esp.stat().st_size if boot else MIB


def disk_size(boot: BootFiles | None, root_bytes: int) -> int:
    """Bytes of the whole disk around a root file system of so many."""
    end = root_at(boot) + root_bytes + (_RESERVED_SECTORS + 1) * SECTOR
    return end + -end % GRAIN


def write_around(
    target: BinaryIO, boot: BootFiles | None, root_bytes: int, identity: bytes
) -> None:
    """Write everything but the root file system to `target`, a file of disk_size() bytes of zeros.

    The same `identity` gives the same identifiers. Raises OSError.
    """
    fd = target.fileno()
    partitions, code = [], b""
    if boot:
        esp = boot.esp.read_bytes()
        code = boot.mbr.read_bytes()
        partitions = [
            Partition("bulkhead-bios", _BIOS_BOOT, _BIOS_AT, _BIOS_BYTES),
            Partition("bulkhead-esp", _ESP, _ESP_AT, len(esp)),
        ]
        _write(fd, boot.bios.read_bytes(), _BIOS_AT)
        _write(fd, esp, _ESP_AT)
    partitions.append(Partition(ROOT_NAME, _LINUX, root_at(boot), root_bytes))
    size = disk_size(boot, root_bytes)
    table = _table(partitions, identity)
    last = size // SECTOR - 1
    _write(fd, _protective_mbr(code, size), 0)
    _write(fd, _header(1, last, 2, last, table, identity), SECTOR)
    _write(fd, table, 2 * SECTOR)
    _write(fd, table, (last - _TABLE_SECTORS) * SECTOR)
    _write(fd, _header(last, 1, last - _TABLE_SECTORS, last, table, identity), last * SECTOR)


def _table(partitions: Sequence[Partition], identity: bytes) -> bytes:
    entries = b"".join(
        _ENTRY.pack(
            one.kind.bytes_le,
            _identifier(identity, one.name).bytes_le,
            one.begin // SECTOR,
            (one.begin + one.size) // SECTOR - 1,
            0,
            one.name.encode("utf-16-le"),
        )
        for one in partitions
    )
    return entries.ljust(_TABLE_SECTORS * SECTOR, b"\0")


def _header(own: int, other: int, entries: int, last: int, table: bytes, identity: bytes) -> bytes:
    """The header that lies in sector `own`; its table is in `entries`, the other header in `other`."""

    def packed(check: int) -> bytes:
        return _HEADER.pack(
            b"EFI PART", 0x10000, _HEADER.size, check, 0, own, other,
            2 + _RESERVED_SECTORS, last - _RESERVED_SECTORS - 1,
            _identifier(identity, "disk").bytes_le,
            entries, _ENTRIES, _ENTRY.size, zlib.crc32(table),
        )  # fmt: skip

    return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")


def _protective_mbr(code: bytes, size: int) -> bytes:
    """One partition of kind 0xEE over all, for programs that know no GPT; before it, what a BIOS starts."""
    sectors = min(size // SECTOR - 1, 2**32 - 1)
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors)
    return code.ljust(446, b"\0") + protective.ljust(64, b"\0") + b"\x55\xaa"


def _identifier(identity: bytes, name: str) -> UUID:
    return uuid5(_SPACE, f"{identity.hex()} {name}")


def _write(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written
