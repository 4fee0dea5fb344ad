"""A tree as an EROFS file system: where everything goes, then everything put there.

Contents go from the layers' archives to the disk by the kernel, or by way of a small buffer; nothing is read twice.
The same tree gives the same bytes.
"""

import os
import stat
from array import array
from collections.abc import Iterator
from typing import BinaryIO, Final

from worker.images import erofs
from worker.images.erofs import BLOCK, INODE_BYTES, MetadataRoom
from worker.images.errors import TooLarge
from worker.images.inodes import archive_of, inode_of
from worker.images.tree import Tree

_SPARSE_FROM: Final = 1 << 20
"""Smaller files are written whole, holes and all."""
_BUFFERED: Final = 64 * 1024
_NOWHERE: Final = 0


class Layout:
    """Made of a tree that does not change any more. Raises TooLarge, TookTooLong."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._inodes = inodes = tree.inodes
        self._sources = [archive.fileno() for archive in tree.archives]
        count = len(inodes)
        self._at = array("Q", bytes(8 * count))
        """Where each inode lies, in bytes; _NOWHERE if no name leads to it."""
        self._data = array("I", bytes(4 * count))
        """The first block of its data, counted from the end of the metadata."""
        self._links = array("I", bytes(4 * count))
        self._parents: dict[int, int] = {0: 0}
        self._room = MetadataRoom(first_block=1)
        self._blocks = 0
        self._place_all()

    @property
    def size(self) -> int:
        """Bytes of the file system; a multiple of 4096."""
        return self._room.end + self._blocks * BLOCK

    # ---------------------------------------------------------------------------------------- planning

    def _place_all(self) -> None:
        self._sort(0)
        self._place(0)
        self._links[0] = 2
        waiting = [0]
        while waiting:
            above = waiting.pop()
            for value in (self._inodes.folder(above) or {}).values():
                inode = inode_of(value)
                is_folder = self._inodes.folder(inode) is not None
                if is_folder:
                    self._parents[inode] = above
                    self._links[above] += 1
                    self._sort(inode)
                    waiting.append(inode)
                self._links[inode] += 1 + is_folder
                if self._at[inode] == _NOWHERE:
                    self._tree.deadline.check()
                    self._place(inode)

    def _sort(self, inode: int) -> None:
        folder = self._inodes.folder(inode)
        assert folder is not None
        self._inodes.held[inode] = dict(sorted(folder.items()))
        self._inodes.size[inode] = erofs.folder_bytes(self._names(inode))

    def _names(self, inode: int) -> list[bytes]:
        return sorted([b".", b"..", *(self._inodes.folder(inode) or ())])

    def _place(self, inode: int) -> None:
        size = self._inodes.size[inode]
        head = INODE_BYTES + len(self._xattrs(inode))
        tail = size % BLOCK
        self._data[inode] = self._blocks
        if self._is_sparse(inode):
            chunks, blocks = self._chunks(inode)
            head += 4 * len(chunks)
            self._blocks += blocks
        elif 0 < tail <= BLOCK - head:
            head += tail
            self._blocks += size // BLOCK
        else:
            self._blocks += -(-size // BLOCK)
        self._at[inode] = self._room.take(head)
        most = self._tree.limits.disk_bytes
        if self._room.end + self._blocks * BLOCK > most:
            raise TooLarge(f"The image's files are larger than {most} bytes.")

    def _is_sparse(self, inode: int) -> bool:
        held = self._inodes.held[inode]
        return isinstance(held, array) and self._inodes.size[inode] >= _SPARSE_FROM

    def _xattrs(self, inode: int) -> bytes:
        number = self._inodes.xattrs[inode]
        return erofs.xattr_data(self._inodes.attributes[number]) if number else b""

    def _chunks(self, inode: int) -> tuple["array[int]", int]:
        """The first block of each chunk of a sparse file, counted from its first; and how many blocks it has.

        A chunk that is all hole has NO_BLOCK. Not kept: maps may be many and long.
        """
        size = self._inodes.size[inode]
        bits = erofs.chunk_bits(size)
        chunks, blocks = array("I", [erofs.NO_BLOCK]) * -(-size >> bits), 0
        pieces = self._inodes.pieces(inode)
        for at, length in zip(pieces[::2], pieces[1::2], strict=True):
            for number in range(at >> bits, (at + length - 1 >> bits) + 1) if length else ():
                if chunks[number] == erofs.NO_BLOCK:
                    chunks[number] = blocks
                    blocks += -(-min(1 << bits, size - (number << bits)) // BLOCK)
        return chunks, blocks

    # ----------------------------------------------------------------------------------------- writing

    def write(self, target: BinaryIO, base: int, identity: bytes) -> None:
        """Write the file system to `target` from byte `base` on, where it is all zeros yet.

        Raises TookTooLong.
        """
        fd = target.fileno()
        first = erofs.superblock(
            root=self._at[0] // erofs.SLOT,
            inodes=sum(1 for at in self._at if at != _NOWHERE),
            blocks=self.size // BLOCK,
            identity=identity,
        )
        os.pwrite(fd, first, base)
        for inode, at in enumerate(self._at):
            if at != _NOWHERE:
                self._tree.deadline.check()
                self._write(inode, fd, base)

    def _write(self, inode: int, fd: int, base: int) -> None:
        inodes = self._inodes
        mode, size = inodes.mode[inode], inodes.size[inode]
        kind = stat.S_IFMT(mode)
        xattrs = self._xattrs(inode)
        is_inline = 0 < size % BLOCK <= BLOCK - INODE_BYTES - len(xattrs)
        first = self._room.end // BLOCK + self._data[inode]
        layout, data, tail = erofs.INLINE if is_inline else erofs.PLAIN, first, b""
        ends = size - size % BLOCK if is_inline else size
        if kind == stat.S_IFREG:
            if self._is_sparse(inode):
                layout, data = erofs.CHUNKS, erofs.chunk_bits(size) - erofs.BLOCK_BITS
                tail = self._write_chunks(inode, first, fd, base)
            elif inodes.held[inode] is None and size <= _BUFFERED:
                held = _read(*self._source(inode), size)
                _write_at(fd, held[:ends], base + first * BLOCK)
                tail = held[ends:]
            else:
                tail = self._write_file(inode, ends, fd, base + first * BLOCK)
        elif kind in (stat.S_IFDIR, stat.S_IFLNK):
            held = self._folder(inode) if kind == stat.S_IFDIR else inodes.target(inode)
            _write_at(fd, held[:ends], base + first * BLOCK)
            tail = held[ends:]
        else:
            layout, data = erofs.PLAIN, inodes.where[inode]
        head = erofs.inode(
            layout=layout,
            xattr_bytes=len(xattrs),
            mode=mode,
            size=size,
            data=data,
            number=inode + 1,
            uid=inodes.uid[inode],
            gid=inodes.gid[inode],
            mtime=inodes.mtime[inode],
            links=self._links[inode],
        )
        _write_at(fd, head + xattrs + tail, base + self._at[inode])

    def _folder(self, inode: int) -> bytes:
        names, slots, modes = self._names(inode), array("Q"), array("H")
        folder = self._inodes.folder(inode) or {}
        for name in names:
            if name == b".":
                to = inode
            elif name == b"..":
                to = self._parents[inode]
            else:
                to = inode_of(folder[name])
            slots.append(self._at[to] // erofs.SLOT)
            modes.append(self._inodes.mode[to])
        return erofs.folder_data(names, slots, modes)

    def _write_file(self, inode: int, ends: int, fd: int, begin: int) -> bytes:
        """Write a file's bytes before `ends` to the disk at `begin`; those behind are given back."""
        tail = bytearray(self._inodes.size[inode] - ends)
        for source, offset, at, length in self._stored(inode):
            ahead = max(0, min(length, ends - at))
            _copy(source, offset, fd, begin + at, ahead)
            if length > ahead:
                rest = _read(source, offset + ahead, length - ahead)
                tail[at + ahead - ends : at + length - ends] = rest
        return bytes(tail)

    def _write_chunks(self, inode: int, first: int, fd: int, base: int) -> bytes:
        """Write a sparse file's pieces, from block `first` on; the map of its chunks."""
        bits = erofs.chunk_bits(self._inodes.size[inode])
        numbers, _ = self._chunks(inode)
        for number, block in enumerate(numbers):
            if block != erofs.NO_BLOCK:
                numbers[number] = first + block
        for source, offset, at, length in self._stored(inode):
            done = 0
            while done < length:
                number, within = at + done >> bits, at + done & (1 << bits) - 1
                part = min(length - done, (1 << bits) - within)
                _copy(source, offset + done, fd, base + numbers[number] * BLOCK + within, part)
                done += part
        return b"".join(number.to_bytes(4, "little") for number in numbers)

    def _source(self, inode: int) -> tuple[int, int]:
        """Where a file's data lie: (descriptor, offset)."""
        archive, offset = archive_of(self._inodes.where[inode])
        return self._sources[archive], offset

    def _stored(self, inode: int) -> Iterator[tuple[int, int, int, int]]:
        """Pieces of a file: (descriptor, where in it, where in the file, length), in bytes."""
        source, offset = self._source(inode)
        pieces = self._inodes.pieces(inode)
        for at, length in zip(pieces[::2], pieces[1::2], strict=True):
            yield source, offset, at, length
            offset += length


def _copy(source: int, offset: int, fd: int, to: int, length: int) -> None:
    if length <= _BUFFERED:
        if length:
            _write_at(fd, _read(source, offset, length), to)
        return
    os.lseek(fd, to, os.SEEK_SET)
    while length:
        copied = os.sendfile(fd, source, offset, length)
        if not copied:
            raise OSError(_SHORTER)
        offset, length = offset + copied, length - copied


def _read(source: int, offset: int, length: int) -> bytes:
    data = os.pread(source, length, offset)
    if len(data) != length:
        raise OSError(_SHORTER)
    return data


def _write_at(fd: int, data: bytes, to: int) -> None:
    while data:
        written = os.pwrite(fd, data, to)
        data, to = data[written:], to + written


_SHORTER: Final = "a layer in the spool has become shorter"
