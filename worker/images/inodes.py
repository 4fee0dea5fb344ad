"""Inodes of an image in columns: some 60 bytes each, where an object of Python's takes 500."""

import stat
from array import array
from typing import Final, TypeAlias

Folder: TypeAlias = dict[bytes, int]
"""Names with what they lead to: an inode's number and the layer that put the name there, as one number."""
Held: TypeAlias = "Folder | bytes | array[int] | None"

LAYER_BITS: Final = 16
_PLACE_BITS: Final = 44


def entry(inode: int, layer: int) -> int:
    """A folder's value: an object of 32 bytes, where a tuple takes 56 and its numbers more."""
    return inode << LAYER_BITS | layer


def inode_of(value: int) -> int:
    return value >> LAYER_BITS


def layer_of(value: int) -> int:
    return value & (1 << LAYER_BITS) - 1


def place(archive: int, offset: int) -> int:
    """Where a file's data begin: which archive, and where in it."""
    return archive << _PLACE_BITS | offset


def archive_of(where: int) -> tuple[int, int]:
    """(archive, offset) of a place."""
    return where >> _PLACE_BITS, where & (1 << _PLACE_BITS) - 1


class Inodes:
    """Each column has one value an inode; an inode's number is its place in all of them."""

    def __init__(self) -> None:
        self.mode = array("H")
        """Kind (S_IFMT) and permissions."""
        self.uid = array("I")
        self.gid = array("I")
        self.mtime = array("q")
        self.size = array("Q")
        self.where = array("Q")
        """A regular file's place; a device's number, as the kernel writes it down."""
        self.xattrs = array("I")
        """Which of `attributes`."""
        self.held: list[Held] = []
        """A folder's names, a symbolic link's target, a sparse file's pieces."""
        self.attributes: list[tuple[tuple[bytes, bytes], ...]] = [()]
        """Each set of extended attributes once, sorted."""
        self._known: dict[tuple[tuple[bytes, bytes], ...], int] = {(): 0}

    def __len__(self) -> int:
        return len(self.mode)

    def add(
        self,
        mode: int,
        held: Held = None,
        *,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        size: int = 0,
        where: int = 0,
        xattrs: int = 0,
    ) -> int:
        """A new inode's number."""
        self.mode.append(mode)
        self.uid.append(uid)
        self.gid.append(gid)
        self.mtime.append(mtime)
        self.size.append(size)
        self.where.append(where)
        self.xattrs.append(xattrs)
        self.held.append(held)
        return len(self.mode) - 1

    def intern(self, attributes: tuple[tuple[bytes, bytes], ...]) -> int:
        """The number of a set of attributes, for `xattrs`."""
        number = self._known.setdefault(attributes, len(self.attributes))
        if number == len(self.attributes):
            self.attributes.append(attributes)
        return number

    def folder(self, inode: int) -> Folder | None:
        """Its names, if it is a folder."""
        held = self.held[inode]
        return held if isinstance(held, dict) else None

    def target(self, inode: int) -> bytes:
        """Of a symbolic link."""
        held = self.held[inode]
        assert isinstance(held, bytes)
        return held

    def pieces(self, inode: int) -> "array[int]":
        """Offset and length of each piece of a regular file in turn."""
        held = self.held[inode]
        return held if isinstance(held, array) else array("Q", (0, self.size[inode]))

    def is_kind(self, inode: int, kind: int) -> bool:
        """Is it of the kind S_IF…?"""
        return stat.S_IFMT(self.mode[inode]) == kind
