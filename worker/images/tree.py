"""The files of an image: layers put upon each other, in memory, names and attributes only.

What files hold stays where it lies, in the layers' archives. Nothing here touches a file system of ours:
".." and links lead around inside the tree and nowhere else. Rules: OCI image specification, "Image Layer
Filesystem Changeset"; where it is silent, what containerd does.
"""

import stat
from typing import BinaryIO, Final

from worker.images.attributes import kept
from worker.images.deadline import Deadline
from worker.images.errors import LayerMalformed, TooLarge
from worker.images.inodes import Folder, Held, Inodes, entry, inode_of, layer_of, place
from worker.images.records import Limits
from worker.images.tar import Member, members

MOST_LINKS_FOLLOWED: Final = 40
LONGEST_NAME: Final = 255
LONGEST_TARGET: Final = 4095
BYTES_AN_ENTRY: Final = 128
"""So many bytes of name, link target, attributes and map of holes count like one more file."""
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_RESERVED: Final = b".wh..wh."
_MOST_IDS: Final = 2**32 - 2
_FAR: Final = 2**34 - 1
"""Seconds from 1970, either way: the year 2514, what ext4 could hold."""
_NEW_FOLDER: Final = stat.S_IFDIR | 0o755


class Tree:
    """Starts empty; layers come from the lowest to the uppermost."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self.limits = limits
        self.deadline = deadline
        self.inodes = Inodes()
        self.archives: list[BinaryIO] = []
        """Where files' data lie; inodes say in which one."""
        self._top: Folder = {}
        self.inodes.add(_NEW_FOLDER, self._top)
        self._layer = 0
        self._count = 0
        # The folder that the last name was put into: mostly the next one's too.
        self._above: tuple[bytes, Folder] | None = None

    def apply(self, archive: BinaryIO) -> None:
        """Put one layer on top. The archive has to stay open as long as the tree is used.

        Raises LayerMalformed, TooLarge, TookTooLong.
        """
        self._layer += 1
        self._above = None
        if archive not in self.archives:
            self.archives.append(archive)
        number = self.archives.index(archive)
        for member in members(archive):
            self.deadline.check()
            self._take(member, number)

    # ------------------------------------------------------------------------------------- one member

    def _take(self, member: Member, archive: int) -> None:
        raw, _, name = member.name.rpartition(b"/")
        self._weigh(name, member)
        if self._above and raw == self._above[0] and _is_plain(name):
            self._put(self._above[1], name, member, archive)
            return
        parts = _parts(member.name)
        if not parts:
            if stat.S_IFMT(member.mode) != stat.S_IFDIR:
                raise LayerMalformed
            self._describe(0, member)
            return
        *above, last = parts
        if any(one.startswith(_WHITEOUT) for one in above):
            if any(one.startswith(_RESERVED) for one in above):
                return  # the bookkeeping of aufs
            raise LayerMalformed("One of the image's layers has files in a whiteout.")
        if last.startswith(_WHITEOUT):
            self._white_out(above, last)
            return
        folder = self._made(above)
        self._put(folder, last, member, archive)
        if last == name:
            self._above = raw, folder

    def _put(self, folder: Folder, name: bytes, member: Member, archive: int) -> None:
        there = folder.get(name)
        if there is not None:
            inode = inode_of(there)
            if stat.S_IFMT(member.mode) == stat.S_IFDIR and self.inodes.folder(inode) is not None:
                self._describe(inode, member)
                folder[name] = entry(inode, self._layer)
                return
            self._above = None  # what is replaced may have been on the way there
        if stat.S_IFMT(member.mode):
            inode = self._made_of(member, archive)
        else:
            inode = self._linked(member)
        folder[name] = entry(inode, self._layer)

    def _made_of(self, member: Member, archive: int) -> int:
        """A new inode, as the member says."""
        mode = member.mode
        kind = stat.S_IFMT(mode)
        held: Held = None
        size = where = 0
        if kind == stat.S_IFREG:
            held, size, where = member.pieces, member.size, place(archive, member.offset)
        elif kind == stat.S_IFDIR:
            held = {}
        elif kind == stat.S_IFLNK:
            held, size = _target(member), len(member.target)
            mode |= 0o777  # Linux knows no other
        else:
            where = _device(*member.device)
        _check_owner(member)
        return self.inodes.add(
            mode,
            held,
            uid=member.uid,
            gid=member.gid,
            mtime=_time(member),
            size=size,
            where=where,
            xattrs=self._attributes(member),
        )

    def _describe(self, inode: int, member: Member) -> None:
        """A folder's owner, mode, time and attributes, anew."""
        _check_owner(member)
        inodes = self.inodes
        inodes.mode[inode] = member.mode
        inodes.uid[inode], inodes.gid[inode] = member.uid, member.gid
        inodes.mtime[inode] = _time(member)
        inodes.xattrs[inode] = self._attributes(member)

    def _attributes(self, member: Member) -> int:
        return self.inodes.intern(kept(member.xattrs)) if member.xattrs else 0

    def _linked(self, member: Member) -> int:
        """What a hard link leads to. A symbolic link at the end of its path is not followed."""
        parts = _parts(member.target)
        folder = self._found(parts[:-1]) if parts else None
        there = folder.get(parts[-1]) if folder else None
        if there is None or self.inodes.folder(inode_of(there)) is not None:
            raise LayerMalformed("One of the image's layers links to a file that is not there.")
        return inode_of(there)

    def _weigh(self, name: bytes, member: Member) -> None:
        size = len(name) + len(member.target)
        if member.xattrs:
            size += sum(len(name) + len(value) for name, value in member.xattrs)
        if member.pieces is not None:
            size += 8 * len(member.pieces)
        self._counts(1 + size // BYTES_AN_ENTRY)

    def _counts(self, entries: int) -> None:
        self._count += entries
        if self._count > self.limits.entries:
            raise TooLarge(f"The image has more than {self.limits.entries} files.")

    # --------------------------------------------------------------------------------------- whiteouts

    def _white_out(self, above: list[bytes], name: bytes) -> None:
        """Hide what lower layers have; what this layer has stays, whichever came first."""
        if name.startswith(_RESERVED) and name != _OPAQUE:
            return  # the bookkeeping of aufs
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise LayerMalformed
        folder = self._found(above)
        if folder is None:
            return
        self._above = None
        for one in list(folder) if name == _OPAQUE else [hidden]:
            if one in folder and not self._survives(folder, one):
                del folder[one]

    def _survives(self, folder: Folder, name: bytes) -> bool:
        """Take all that is of lower layers out from under a hidden name. Is anything left?"""
        there = folder[name]
        children = self.inodes.folder(inode_of(there))
        for one in list(children or ()):
            if children and not self._survives(children, one):
                del children[one]
        if layer_of(there) < self._layer and children:
            # This layer put files into it, so it made the folder anew: without a word on its mode.
            folder[name] = entry(self.inodes.add(_NEW_FOLDER, children), self._layer)
        return layer_of(folder[name]) == self._layer

    # ------------------------------------------------------------------------------------------- paths

    def _made(self, parts: list[bytes]) -> Folder:
        """The folder at a path, with those above it, made where they are not."""
        folder = self._folder(parts, make=True)
        if folder is None:
            raise LayerMalformed("One of the image's layers puts a file into what is no folder.")
        return folder

    def _found(self, parts: list[bytes]) -> Folder | None:
        """The folder at a path, if there is one."""
        return self._folder(parts, make=False)

    def _folder(self, parts: list[bytes], *, make: bool) -> Folder | None:
        """Follow a path from the root, through symbolic links as a kernel with this root would."""
        stack, ahead, followed = [self._top], parts[::-1], 0
        while ahead:
            name = ahead.pop()
            if name == b"..":
                del stack[max(1, len(stack) - 1) :]
                continue
            there = stack[-1].get(name)
            if there is None:
                if not make:
                    return None
                self._counts(1)
                there = entry(self.inodes.add(_NEW_FOLDER, {}), self._layer)
                stack[-1][name] = there
            inode = inode_of(there)
            held = self.inodes.held[inode]
            if isinstance(held, dict):
                stack.append(held)
            elif isinstance(held, bytes) and followed < MOST_LINKS_FOLLOWED:
                followed += 1
                if held.startswith(b"/"):
                    del stack[1:]
                ahead += _components(held)[::-1]
            else:
                return None
            if len(stack) > self.limits.depth:
                raise TooLarge(f"The image has more than {self.limits.depth} folders in folders.")
        return stack[-1]


def _is_plain(name: bytes) -> bool:
    return (
        0 < len(name) <= LONGEST_NAME
        and name not in (b".", b"..")
        and not name.startswith(_WHITEOUT)
        and b"\0" not in name
    )


def _components(path: bytes) -> list[bytes]:
    """The names in a path, ".." among them. Raises LayerMalformed for names no file system takes."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b"\0" in path or any(len(name) > LONGEST_NAME for name in names):
        raise LayerMalformed("One of the image's layers has a name that no file can have.")
    return names


def _parts(path: bytes) -> list[bytes]:
    """The names in a member's path; ".." takes one back and never leads above the root."""
    parts: list[bytes] = []
    for name in _components(path):
        if name == b"..":
            del parts[-1:]
        else:
            parts.append(name)
    return parts


def _target(member: Member) -> bytes:
    if not 0 < len(member.target) <= LONGEST_TARGET:
        raise LayerMalformed("One of the image's layers has a link without a target.")
    _components(member.target)
    return member.target


def _time(member: Member) -> int:
    return min(max(-_FAR, member.mtime), _FAR)


def _check_owner(member: Member) -> None:
    """Names of owners are the image's own affair, and dropped; numbers have to be some."""
    if not (0 <= member.uid <= _MOST_IDS and 0 <= member.gid <= _MOST_IDS):
        raise LayerMalformed("One of the image's layers has an owner that no file can have.")


def _device(major: int, minor: int) -> int:
    """As Linux writes device numbers down (new_encode_dev): 12 bits of major, 20 of minor."""
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise LayerMalformed("One of the image's layers has a device that no file can be.")
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
