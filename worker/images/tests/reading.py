"""Root disks read back: by a small reader of EROFS written for these tests, from the kernel's own description.

It is slow, believes what it reads, and shares no line with the writer. The kernel and fsck.erofs are asked in
test_kernel.py.
"""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

BLOCK = 4096


@dataclass(frozen=True)
class Found:
    """One name in an image. Equal inodes: hard links."""

    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]
    content: bytes
    """Of a file; a symbolic link's target; nothing of a folder."""
    inode: int

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)


def partitions(disk: bytes) -> dict[str, tuple[int, int, UUID]]:
    """By name: where it begins and ends in the disk, in bytes, and what kind it is."""
    begin, count, size = struct.unpack_from("<QII", disk, 512 + 72)
    found = {}
    for number in range(count):
        entry = disk[begin * 512 + number * size :][:size]
        kind, _, first, last, _ = struct.unpack_from("<16s16sQQQ", entry)
        if any(kind):
            name = entry[56:128].decode("utf-16-le").rstrip("\0")
            found[name] = (first * 512, (last + 1) * 512, UUID(bytes_le=kind))
    return found


def root_of(disk: bytes) -> bytes:
    """The root file system on a disk."""
    begin, end, _ = partitions(disk)["bulkhead-root"]
    return disk[begin:end]


def files(disk: bytes) -> dict[bytes, Found]:
    """Every name on the root partition, from the root (b"") on, in the order of a walk."""
    return {
        path: replace(found, content=b"") if stat.S_ISDIR(found.mode) else found
        for path, found in Erofs(root_of(disk)).walk()
    }


class Erofs:
    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, _, _, bits, _, self.root, self.inodes = struct.unpack_from("<IIIBBHQ", data, 1024)
        assert (magic, bits) == (0xE0F5E1E2, 12)
        (self.blocks,) = struct.unpack_from("<I", data, 1024 + 36)
        assert self.blocks * BLOCK == len(data)

    def walk(self, inode: int | None = None, path: bytes = b"") -> Iterator[tuple[bytes, Found]]:
        inode = self.root if inode is None else inode
        found = self.read(inode)
        yield path, found
        if stat.S_ISDIR(found.mode):
            for name, to, kind in names(found.content):
                if name not in (b".", b".."):
                    assert kind == _KIND[stat.S_IFMT(self.read(to).mode)]
                    yield from self.walk(to, path + b"/" * bool(path) + name)

    def read(self, number: int) -> Found:
        at = number * 32
        form, count, mode, _, size, data, _, uid, gid, mtime, _, links = struct.unpack_from(
            "<HHHHQIIIIqII", self.data, at
        )
        assert form & 1
        xattr_bytes = 12 + 4 * (count - 1) if count else 0
        behind = at + 64 + xattr_bytes
        layout = form >> 1
        if stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            content = self._content(layout, size, data, behind)
            device = (0, 0)
        else:
            content, device = b"", (data >> 8 & 0xFFF, data & 0xFF | data >> 12 & 0xFFF00)
        xattrs = dict(attributes(self.data[at + 64 : behind]))
        return Found(mode, uid, gid, mtime, links, device, xattrs, content, number)

    def _content(self, layout: int, size: int, data: int, behind: int) -> bytes:
        if layout == 4:
            return self._chunks(size, data, behind)
        whole = size - size % BLOCK if layout == 2 else size
        tail = self.data[behind : behind + size - whole]
        assert not tail or behind // BLOCK == (behind + len(tail) - 1) // BLOCK
        content = self.data[data * BLOCK :][:whole] + tail
        assert len(content) == size
        return content

    def _chunks(self, size: int, form: int, behind: int) -> bytes:
        length, parts = BLOCK << (form & 31), []
        for number in range(-(-size // length)):
            (block,) = struct.unpack_from("<I", self.data, behind + 4 * number)
            part = min(length, size - number * length)
            hole = block == 2**32 - 1
            parts.append(bytes(part) if hole else self.data[block * BLOCK :][:part])
        return b"".join(parts)


_KIND = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}


def names(folder: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, inode, kind) in a folder; checks that they are sorted, as the kernel searches them."""
    last = b""
    for begin in range(0, len(folder), BLOCK):
        block = folder[begin : begin + BLOCK]
        count = struct.unpack_from("<H", block, 8)[0] // 12
        places = [struct.unpack_from("<QHB", block, 12 * number) for number in range(count)]
        ends = [at for _, at, _ in places[1:]] + [len(block)]
        for (inode, at, kind), end in zip(places, ends, strict=True):
            name = block[at:end].rstrip(b"\0")
            assert name > last
            last = name
            yield name, inode, kind


def attributes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    prefixes = {
        1: b"user.",
        2: b"system.posix_acl_access",
        3: b"system.posix_acl_default",
        6: b"security.",
    }
    at = 12
    while at < len(data):
        length, index, size = struct.unpack_from("<BBH", data, at)
        name = data[at + 4 : at + 4 + length]
        yield prefixes[index] + name, data[at + 4 + length :][:size]
        at += -(-(4 + length + size) // 4) * 4


def tree_on(folder: Path) -> dict[bytes, Found]:
    """The same of a folder on this machine: one that is mounted, or that somebody unpacked."""
    found: dict[bytes, Found] = {}
    root = os.fsencode(folder)
    waiting = [root]
    while waiting:
        path = waiting.pop()
        told = os.lstat(path)
        content = b""
        if stat.S_ISREG(told.st_mode):
            content = Path(os.fsdecode(path)).read_bytes()
        elif stat.S_ISLNK(told.st_mode):
            content = os.readlink(path)  # noqa: PTH115 - a Path would tidy it up
        elif stat.S_ISDIR(told.st_mode):
            waiting += [os.path.join(path, name) for name in os.listdir(path)]  # noqa: PTH118, PTH208
        device = (os.major(told.st_rdev), os.minor(told.st_rdev))
        xattrs = {
            os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        found[path[len(root) + 1 :]] = Found(
            told.st_mode,
            told.st_uid,
            told.st_gid,
            int(told.st_mtime_ns // 10**9),
            told.st_nlink,
            device,
            xattrs,
            content,
            told.st_ino,
        )
    return found
