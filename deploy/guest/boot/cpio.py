"""Writes an initramfs: a cpio archive in the "newc" form.

Source: Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path

REGULAR, FOLDER, LINK = 0o100000, 0o040000, 0o120000


@dataclass
class Archive:
    """Everything in it is root's, and has no time."""

    out: bytearray = field(default_factory=bytearray)
    names: set[str] = field(default_factory=set)

    def _put(self, name: str, mode: int, data: bytes) -> None:
        size, named = len(data), len(name.encode()) + 1
        numbers = (len(self.names) + 1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, named, 0)
        self.out += b"070701" + b"".join(b"%08x" % number for number in numbers)
        self.out += name.encode() + b"\0"
        self.out += bytes(-len(self.out) % 4) + data
        self.out += bytes(-len(self.out) % 4)
        self.names.add(name)

    def folder(self, name: str) -> None:
        """A folder and those above it, once each."""
        parent, _, _ = name.rpartition("/")
        if parent:
            self.folder(parent)
        if name and name not in self.names:
            self._put(name, FOLDER | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        self.folder(name.rpartition("/")[0])
        self._put(name, REGULAR | mode, data)

    def link(self, name: str, target: str) -> None:
        self.folder(name.rpartition("/")[0])
        self._put(name, LINK | 0o777, target.encode())

    def close(self) -> bytes:
        self._put("TRAILER!!!", 0, b"")
        return bytes(self.out)


def archive_of(folder: Path) -> bytes:
    """Everything below the folder; devices and sockets are left out."""
    archive = Archive()
    for path in sorted(folder.rglob("*")):
        name, mode = str(path.relative_to(folder)), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            archive.link(name, str(path.readlink()))
        elif stat.S_ISREG(mode):
            archive.file(name, path.read_bytes(), stat.S_IMODE(mode))
        elif stat.S_ISDIR(mode):
            archive.folder(name)
    return archive.close()
