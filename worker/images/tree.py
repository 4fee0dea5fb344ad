"""The files of an image: layers put upon each other, in memory, names and attributes only.

What files hold stays where it lies, in the layers' archives. Nothing here touches a file system of ours:
".." and links lead around inside the tree and nowhere else. Rules: OCI image specification, "Image Layer
Filesystem Changeset"; where it is silent, what containerd does.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from worker.images.archive import members, pieces
from worker.images.deadline import Deadline
from worker.images.errors import LayerMalformed, TooLarge
from worker.images.records import Limits

MOST_LINKS_FOLLOWED: Final = 40
LONGEST_NAME: Final = 255
LONGEST_TARGET: Final = 4095
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_RESERVED: Final = ".wh..wh."
_XATTR: Final = "SCHILY.xattr."
# Attributes that mean something in a guest. Those of overlayfs and of security modules are about the
# machine that built the image, and could mislead the one that runs it.
_KEPT_XATTRS: Final = ("user.", "security.capability", "system.posix_acl_")
_DROPPED_XATTRS: Final = ("user.overlay.",)
_MOST_IDS: Final = 2**32 - 2
_LATEST: Final = 2**34 - 1
_KINDS: Final = {
    tarfile.REGTYPE: tarfile.REGTYPE,
    tarfile.AREGTYPE: tarfile.REGTYPE,
    tarfile.CONTTYPE: tarfile.REGTYPE,
    tarfile.GNUTYPE_SPARSE: tarfile.REGTYPE,
    tarfile.DIRTYPE: tarfile.DIRTYPE,
    tarfile.SYMTYPE: tarfile.SYMTYPE,
    tarfile.CHRTYPE: tarfile.CHRTYPE,
    tarfile.BLKTYPE: tarfile.BLKTYPE,
    tarfile.FIFOTYPE: tarfile.FIFOTYPE,
}


@dataclass(slots=True, eq=False)
class Data:
    """Where a file's bytes lie."""

    archive: BinaryIO
    offset: int
    pieces: list[tuple[int, int]]


@dataclass(slots=True, eq=False)
class Node:
    """An inode: what a name leads to. Hard links are names with one node."""

    kind: bytes = tarfile.DIRTYPE
    """One of tarfile's types: REGTYPE, DIRTYPE, SYMTYPE, CHRTYPE, BLKTYPE, FIFOTYPE."""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    """Whole seconds since 1970."""
    size: int = 0
    target: str = ""
    """A symbolic link's."""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, str], ...] = ()
    data: Data | None = None
    children: dict[str, "Entry"] | None = None
    """A folder's; None for all else."""


@dataclass(slots=True, eq=False)
class Entry:
    """A name in a folder, and the number of the layer that put it there."""

    node: Node
    layer: int


@dataclass
class Tree:
    """Starts empty; layers come from the lowest to the uppermost."""

    limits: Limits
    deadline: Deadline
    root: Node = field(default_factory=lambda: Node(children={}))
    _layer: int = 0
    _entries: int = 0

    def apply(self, archive: BinaryIO) -> None:
        """Put one layer on top. The archive has to stay open as long as the tree is used.

        Raises LayerMalformed, TooLarge, TookTooLong.
        """
        self._layer += 1
        for member in members(archive):
            self.deadline.check()
            self._take(member, archive)

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Each name with its node, folders before what is in them, else in the order of their bytes.

        The root comes first and has the name "".
        """
        waiting = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            yield path, node
            for name in sorted(node.children or (), key=_bytes, reverse=True):
                assert node.children is not None
                waiting.append((f"{path}/{name}" if path else name, node.children[name].node))

    # ------------------------------------------------------------------------------------- one member

    def _take(self, member: tarfile.TarInfo, archive: BinaryIO) -> None:
        self._count()
        parts = _parts(member.name)
        if not parts:
            if not member.isdir():
                raise LayerMalformed
            _describe(self.root, member)
            return
        *above, name = parts
        if any(one.startswith(_WHITEOUT) for one in above):
            raise LayerMalformed("One of the image's layers has files in a whiteout.")
        if name.startswith(_WHITEOUT):
            self._white_out(above, name)
        else:
            self._put(self._made(above), name, member, archive)

    def _put(
        self, folder: dict[str, Entry], name: str, member: tarfile.TarInfo, archive: BinaryIO
    ) -> None:
        there = folder.get(name)
        if member.isdir() and there and there.node.children is not None:
            _describe(there.node, member)
            there.layer = self._layer
            return
        node = self._linked(member) if member.islnk() else _node(member, archive)
        folder[name] = Entry(node, self._layer)

    def _linked(self, member: tarfile.TarInfo) -> Node:
        """What a hard link leads to. A symbolic link at the end of its path is not followed."""
        parts = _parts(member.linkname)
        folder = self._found(parts[:-1]) if parts else None
        entry = folder.get(parts[-1]) if folder else None
        if entry is None or entry.node.children is not None:
            raise LayerMalformed("One of the image's layers links to a file that is not there.")
        return entry.node

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self.limits.entries:
            raise TooLarge(f"The image has more than {self.limits.entries} files.")

    # --------------------------------------------------------------------------------------- whiteouts

    def _white_out(self, above: list[str], name: str) -> None:
        """Hide what lower layers have; what this layer has stays, whichever came first."""
        if name.startswith(_RESERVED) and name != _OPAQUE:
            return  # the bookkeeping of aufs
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise LayerMalformed
        folder = self._found(above)
        if folder is None:
            return
        for one in list(folder) if name == _OPAQUE else [hidden]:
            if one in folder and not self._survives(folder[one]):
                del folder[one]

    def _survives(self, entry: Entry) -> bool:
        """Take all that is of lower layers out from under a hidden name. Is anything left?"""
        children = entry.node.children
        for name in list(children or ()):
            if children and not self._survives(children[name]):
                del children[name]
        if entry.layer < self._layer and children:
            # This layer put files into it, so it made the folder anew: without a word on its mode.
            entry.node, entry.layer = Node(children=children), self._layer
        return entry.layer == self._layer

    # ------------------------------------------------------------------------------------------- paths

    def _made(self, parts: list[str]) -> dict[str, Entry]:
        """The folder at a path, with those above it, made where they are not."""
        folder = self._folder(parts, make=True)
        if folder is None:
            raise LayerMalformed("One of the image's layers puts a file into what is no folder.")
        return folder

    def _found(self, parts: list[str]) -> dict[str, Entry] | None:
        """The folder at a path, if there is one."""
        return self._folder(parts, make=False)

    def _folder(self, parts: list[str], *, make: bool) -> dict[str, Entry] | None:
        """Follow a path from the root, through symbolic links as a kernel with this root would."""
        assert self.root.children is not None
        stack, ahead, followed = [self.root.children], parts[::-1], 0
        while ahead:
            name = ahead.pop()
            if name == "..":
                del stack[max(1, len(stack) - 1) :]
                continue
            entry = stack[-1].get(name)
            if entry is None:
                if not make:
                    return None
                self._count()
                entry = stack[-1][name] = Entry(Node(children={}), self._layer)
            node = entry.node
            if node.children is not None:
                stack.append(node.children)
            elif node.kind == tarfile.SYMTYPE and followed < MOST_LINKS_FOLLOWED:
                followed += 1
                if node.target.startswith("/"):
                    del stack[1:]
                ahead += _components(node.target)[::-1]
            else:
                return None
            if len(stack) > self.limits.depth:
                raise TooLarge(f"The image has more than {self.limits.depth} folders in folders.")
        return stack[-1]


def _components(path: str) -> list[str]:
    """The names in a path, ".." among them. Raises LayerMalformed for names no file system takes."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if "\0" in path or any(len(_bytes(name)) > LONGEST_NAME for name in names):
        raise LayerMalformed("One of the image's layers has a name that no file can have.")
    return names


def _parts(path: str) -> list[str]:
    """The names in a member's path; ".." takes one back and never leads above the root."""
    parts: list[str] = []
    for name in _components(path):
        if name == "..":
            del parts[-1:]
        else:
            parts.append(name)
    return parts


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _node(member: tarfile.TarInfo, archive: BinaryIO) -> Node:
    node = Node()
    _describe(node, member)
    if node.kind == tarfile.DIRTYPE:
        node.children = {}
    elif node.kind == tarfile.REGTYPE:
        node.size = member.size
        node.data = Data(archive, member.offset_data, pieces(member))
    elif node.kind == tarfile.SYMTYPE:
        node.target = member.linkname
        if not 0 < len(_bytes(node.target)) <= LONGEST_TARGET:
            raise LayerMalformed("One of the image's layers has a link without a target.")
        _components(node.target)
    elif node.kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        node.device = (member.devmajor, member.devminor)
    return node


def _describe(node: Node, member: tarfile.TarInfo) -> None:
    """Kind, owner, mode, time and attributes. Names of owners are the image's own affair: dropped."""
    kind = _KINDS.get(member.type)
    if kind is None:
        raise LayerMalformed("One of the image's layers has something that is no kind of file.")
    if not (0 <= member.uid <= _MOST_IDS and 0 <= member.gid <= _MOST_IDS):
        raise LayerMalformed("One of the image's layers has an owner that no file can have.")
    node.kind = kind
    node.mode = member.mode & 0o7777
    node.uid, node.gid = member.uid, member.gid
    node.mtime = min(max(0, int(member.mtime)), _LATEST)
    node.xattrs = _xattrs(member)


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[str, str], ...]:
    found = {
        keyword.removeprefix(_XATTR): value
        for keyword, value in member.pax_headers.items()
        if keyword.startswith(_XATTR)
    }
    kept = [
        (name, value)
        for name, value in found.items()
        if name.startswith(_KEPT_XATTRS) and not name.startswith(_DROPPED_XATTRS)
    ]
    if any(not name.isprintable() or len(_bytes(name)) > LONGEST_NAME for name, _ in kept):
        raise LayerMalformed("One of the image's layers has an attribute that no file can have.")
    return tuple(sorted(kept))
