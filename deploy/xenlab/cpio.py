"""Writes an initramfs: the `newc` cpio format of the kernel's buffer-format documentation."""

from __future__ import annotations

import stat
from pathlib import Path

TRAILER = "TRAILER!!!"


def archive_of(folder: Path) -> bytes:
    """Everything below the folder, owned by root; devices and sockets are left out."""
    out = bytearray()
    for number, path in enumerate(sorted(folder.rglob("*")), start=1):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            data = str(path.readlink()).encode()
        elif stat.S_ISREG(mode):
            data = path.read_bytes()
        elif stat.S_ISDIR(mode):
            data = b""
        else:
            continue
        out += _entry(str(path.relative_to(folder)), mode, data, number)
    out += _entry(TRAILER, 0, b"", 0)
    return bytes(out)


def _entry(name: str, mode: int, data: bytes, inode: int) -> bytes:
    raw_name = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(raw_name), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + raw_name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
