"""Tar archives, header by header: v7, ustar, pax (POSIX.1-2001) and GNU's, with its four kinds of sparse files.

Strict where two readers could see two things: what is said twice in two ways is refused. Names stay bytes.
Of what files hold, only the place in the archive is told. Sources: POSIX.1-2008 "pax"; GNU tar's manual,
"Tar Internals"; Go's archive/tar, which Docker, containerd and umoci read with.
"""

import os
import stat
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from worker.images.errors import LayerMalformed, TooLarge
from worker.images.records import MIB
from worker.images.tar_fields import (
    add_piece,
    adds_up,
    check_pieces,
    decimal_of,
    number_of,
    records_of,
    seconds_of,
    size_of,
    text_of,
)

BLOCK: Final = 512
LONGEST_HEADER: Final = MIB
"""A member's names, attributes and map of holes together, in bytes."""
XATTR: Final = b"SCHILY.xattr."
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12s")
_ZEROS: Final = bytes(BLOCK)
_KINDS: Final = {
    b"0": stat.S_IFREG,
    b"\0": stat.S_IFREG,
    b"7": stat.S_IFREG,
    b"S": stat.S_IFREG,
    b"1": 0,
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
}
_EXTENSIONS: Final = b"LKxg"
_NO_DEVICE: Final = (0, 0)
_NO_XATTRS: Final[tuple[tuple[bytes, bytes], ...]] = ()


@dataclass(slots=True)
class Member:
    """What a header, with those that extend it, says of one name."""

    name: bytes
    mode: int
    """The kind of file (S_IFMT) and its permissions. A hard link has no kind."""
    uid: int
    gid: int
    mtime: int
    """Whole seconds since 1970, rounded down."""
    size: int
    """Bytes that a reader of the file sees; 0 but for regular files."""
    target: bytes
    """Of a hard or symbolic link."""
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    offset: int
    """Where in the archive the data begin."""
    pieces: "array[int] | None"
    """Of a sparse file: offset and length of each piece in turn, rising; the rest are holes."""


def members(file: BinaryIO) -> Iterator[Member]:
    """Each member of the archive in `file`, which has a descriptor.

    Raises LayerMalformed, also for an archive that ends in the middle, and TooLarge.
    """
    reader = _Reader(file)
    while (member := reader.next()) is not None:
        yield member


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self._end = os.fstat(self._fd).st_size
        self._at = 0
        self._everywhere: dict[bytes, bytes] = {}

    def next(self) -> Member | None:
        left, said = LONGEST_HEADER, _Said()
        while block := self._block():
            kind = block[156:157]
            if kind not in _EXTENSIONS:
                return self._member(block, said, left)
            size = size_of(number_of(block[124:136]))
            left -= size
            if left < 0:
                raise TooLarge("A file in the image has too long a name or too many attributes.")
            said.add(kind, self._read(size), self._everywhere)
        if said.anything:
            raise LayerMalformed("One of the image's layers ends in the middle of a file.")
        return None

    def _block(self) -> bytes:
        """The next header, checked; nothing at the end: a block of zeros, or no block at all."""
        if self._at >= self._end:
            return b""
        block = os.pread(self._fd, BLOCK, self._at)
        self._at += BLOCK
        if block == _ZEROS:
            if os.pread(self._fd, BLOCK, self._at).strip(b"\0"):
                raise LayerMalformed
            return b""
        if len(block) != BLOCK or not adds_up(block):
            raise LayerMalformed
        return block

    def _read(self, size: int) -> bytes:
        """The data of a header, which are short."""
        data = os.pread(self._fd, size, self._at)
        if len(data) != size:
            raise LayerMalformed("One of the image's layers ends in the middle of a file.")
        self._at += size + -size % BLOCK
        return data

    def _member(self, block: bytes, said: "_Said", left: int) -> Member:
        (name, mode, uid, gid, size, mtime, _, kind, target, magic, major, minor, prefix, rest) = (
            _HEADER.unpack(block)
        )
        name, target = text_of(name), text_of(target)
        if magic[:6] == b"ustar\0" and prefix[0]:
            # Schilling's star keeps two times in the end of the prefix.
            name = text_of(prefix[:131] if rest[8:] == b"tar\0" else prefix) + b"/" + name
        form = _KINDS.get(kind)
        if form is None:
            raise LayerMalformed("One of the image's layers has something that is no kind of file.")
        permissions = number_of(mode)
        if permissions < 0:
            raise LayerMalformed
        is_device = kind in b"34"
        member = Member(
            said.name or name,
            form | permissions & 0o7777,
            number_of(uid),
            number_of(gid),
            number_of(mtime),
            number_of(size),
            said.target or target,
            (number_of(major), number_of(minor)) if is_device else _NO_DEVICE,
            _NO_XATTRS,
            0,
            None,
        )
        records = said.records
        if self._everywhere:
            records = {**self._everywhere, **(records or {})}
        if records:
            _amend(member, records)
        if kind == b"\0" and member.name.endswith(b"/"):
            member.mode = stat.S_IFDIR | member.mode & 0o7777
        if stat.S_IFMT(member.mode) != stat.S_IFREG:
            member.size = 0  # such have no data, whatever they say
            return member
        self._find_data(member, block if kind == b"S" else b"", said, left)
        return member

    def _find_data(self, member: Member, old_gnu: bytes, said: "_Said", left: int) -> None:
        """Where a file's data lie, and the next header after them."""
        stored = size_of(member.size)
        records = said.records or {}
        is_new = records.get(b"GNU.sparse.major") == b"1"
        is_in_pax = said.pieces is not None or b"GNU.sparse.size" in records
        if bool(old_gnu) + is_new + is_in_pax > 1:
            raise LayerMalformed("One of the image's layers maps a file's holes in two ways.")
        if old_gnu:
            member.pieces, member.size = self._old_gnu_map(old_gnu, left)
        elif is_new:
            begin = self._at
            member.pieces = self._map_in_data(left)
            stored -= self._at - begin
            member.size = decimal_of(records.get(b"GNU.sparse.realsize", b""))
        elif is_in_pax:
            member.pieces = array("Q") if said.pieces is None else said.pieces
            member.size = decimal_of(records.get(b"GNU.sparse.size", b""))
        if member.pieces is not None:
            check_pieces(member.pieces, member.size, stored)
        member.offset = self._at
        self._at += stored
        if stored < 0 or self._at > self._end:
            raise LayerMalformed("One of the image's layers ends in the middle of a file.")
        self._at += -stored % BLOCK

    def _old_gnu_map(self, block: bytes, left: int) -> tuple["array[int]", int]:
        pieces, size = array("Q"), size_of(number_of(block[483:495]))
        at, more, count = 386, block[482], 4
        while True:
            for _ in range(count):
                if not block[at : at + 24].strip(b"\0"):
                    break
                add_piece(
                    pieces, number_of(block[at : at + 12]), number_of(block[at + 12 : at + 24])
                )
                at += 24
            if not more:
                return pieces, size
            left -= BLOCK
            if left < 0:
                raise TooLarge("A file in the image has too many holes.")
            block = self._read(BLOCK)
            at, more, count = 0, block[504], 21

    def _map_in_data(self, left: int) -> "array[int]":
        """Decimal numbers, a line each: how many pieces, then offset and length of each."""
        text, numbers, wanted = b"", array("Q"), 1
        while True:
            left -= BLOCK
            if left < 0:
                raise TooLarge("A file in the image has too many holes.")
            *lines, text = (text + self._read(BLOCK)).split(b"\n")
            if len(text) > BLOCK:
                raise LayerMalformed
            for line in lines:
                numbers.append(size_of(decimal_of(line)))
                if len(numbers) == 1:
                    wanted = 1 + 2 * numbers[0]
                if len(numbers) == wanted:
                    return numbers[1:]


class _Said:
    """What the headers before a member's own say. Nothing may be said twice."""

    __slots__ = ("anything", "name", "pieces", "records", "target")

    def __init__(self) -> None:
        self.anything = False
        self.name = self.target = b""
        self.records: dict[bytes, bytes] | None = None
        self.pieces: array[int] | None = None

    def add(self, kind: bytes, body: bytes, everywhere: dict[bytes, bytes]) -> None:
        if kind == b"g":
            everywhere.update((key, value) for key, value in records_of(body) if _is_plain(key))
            if sum(map(len, everywhere.values())) > LONGEST_HEADER:
                raise TooLarge("An archive in the image says too much of all its files.")
            return
        self.anything = True
        if kind == b"x":
            if self.records is not None or self.name or self.target:
                raise LayerMalformed(_TWICE)
            self._take(records_of(body))
        elif kind == b"L":
            if self.name or self.records is not None:
                raise LayerMalformed(_TWICE)
            self.name = text_of(body)
        else:
            if self.target or self.records is not None:
                raise LayerMalformed(_TWICE)
            self.target = text_of(body)

    def _take(self, records: Iterator[tuple[bytes, bytes]]) -> None:
        self.records = {}
        offset = -1
        for key, value in records:
            if key == b"GNU.sparse.offset":
                offset = decimal_of(value)
            elif key == b"GNU.sparse.numbytes":
                self.pieces = array("Q") if self.pieces is None else self.pieces
                add_piece(self.pieces, offset, decimal_of(value))
            elif key == b"GNU.sparse.map":
                numbers = [size_of(decimal_of(one)) for one in value.split(b",")] if value else []
                if len(numbers) % 2:
                    raise LayerMalformed
                self.pieces = array("Q", numbers)
            else:
                self.records[key] = value


_TWICE: Final = "One of the image's layers names a file in two ways."


def _is_plain(key: bytes) -> bool:
    """May it be said of all files that follow? Not a file's own name, size or holes."""
    return not key.startswith(b"GNU.sparse.") and key not in (b"path", b"linkpath", b"size")


def _amend(member: Member, records: dict[bytes, bytes]) -> None:
    """What pax says goes before the header itself; an empty value says nothing."""
    xattrs = []
    for key, value in records.items():
        if not value:
            continue
        if key.startswith(XATTR):
            xattrs.append((key[len(XATTR) :], value))
        elif key == b"path":
            member.name = value
        elif key == b"linkpath":
            member.target = value
        elif key == b"size":
            member.size = decimal_of(value)
        elif key == b"uid":
            member.uid = decimal_of(value)
        elif key == b"gid":
            member.gid = decimal_of(value)
        elif key == b"mtime":
            member.mtime = seconds_of(value)
    # A sparse file's real name stands apart: readers that know no holes see another one.
    member.name = records.get(b"GNU.sparse.name") or member.name
    if xattrs:
        member.xattrs = tuple(sorted(xattrs))
