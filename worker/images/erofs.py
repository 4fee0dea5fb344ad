"""EROFS, the kernel's read-only file system, as it lies on a disk: structures and packing. Pure.

Blocks of 4096 bytes, nothing compressed, every inode in the long form (64 bytes: 32 bits of owner, its own time).
A file's last, partial block lies behind its inode where both fit into one block; sparse files point at chunks.
Sources: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux 6.1.
"""

import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from worker.images.attributes import ACLS, CAPABILITY, Attributes

BLOCK: Final = 4096
BLOCK_BITS: Final = 12
SLOT: Final = 32
"""An inode's number is its place in the metadata, in slots of so many bytes."""
INODE_BYTES: Final = 64
PLAIN, INLINE, CHUNKS = 0, 2, 4
"""How a file's data lie: in whole blocks; the same, but the last one behind the inode; in chunks."""
NO_BLOCK: Final = 2**32 - 1
SUPERBLOCK_AT: Final = 1024
_MAGIC: Final = 0xE0F5E1E2
_TIMES_ARE_CHANGES: Final = 2
"""feature_compat: an inode's time is that of its contents (EROFS_FEATURE_COMPAT_MTIME)."""
_HAS_CHUNKS: Final = 4
"""feature_incompat: EROFS_FEATURE_INCOMPAT_CHUNKED_FILE."""
_SUPERBLOCK: Final = struct.Struct("<IIIBBHQQIIII16s16sI44x")
_INODE: Final = struct.Struct("<HHHHQIIIIqII16x")
_NAME: Final = struct.Struct("<QHBx")
_XATTR: Final = struct.Struct("<BBH")
_XATTR_HEADER: Final = bytes(12)
_KINDS: Final = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}
_FEWEST_CHUNK_BITS: Final = 16
_MOST_CHUNKS: Final = 16384


def superblock(*, root: int, inodes: int, blocks: int, identity: bytes) -> bytes:
    """The first block. `root` is the root folder's slot, `identity` 16 bytes."""
    block = _SUPERBLOCK.pack(
        _MAGIC, 0, _TIMES_ARE_CHANGES, BLOCK_BITS, 0, root, inodes, 0, 0, blocks, 0, 0,
        identity, b"bulkhead-root", _HAS_CHUNKS,
    )  # fmt: skip
    return bytes(SUPERBLOCK_AT) + block.ljust(BLOCK - SUPERBLOCK_AT, b"\0")


def inode(
    *,
    layout: int,
    xattr_bytes: int,
    mode: int,
    size: int,
    data: int,
    number: int,
    uid: int,
    gid: int,
    mtime: int,
    links: int,
) -> bytes:
    """`data` is the first block, a device's number or how large chunks are, by kind and layout."""
    count = (xattr_bytes - 12) // 4 + 1 if xattr_bytes else 0
    return _INODE.pack(
        1 | layout << 1, count, mode, 0, size, data, number, uid, gid, mtime, 0, links
    )


# ------------------------------------------------------------------------------------------------- folders


def folder_blocks(names: Sequence[bytes]) -> Iterator[tuple[int, int, int]]:
    """How sorted names fall into blocks: (first, behind the last, bytes used) of each."""
    begin = used = 0
    for number, name in enumerate(names):
        need = _NAME.size + len(name)
        if used + need > BLOCK:
            yield begin, number, used
            begin, used = number, 0
        used += need
    yield begin, len(names), used


def folder_bytes(names: Sequence[bytes]) -> int:
    """The size of a folder with these names, "." and ".." among them."""
    blocks = list(folder_blocks(names))
    return (len(blocks) - 1) * BLOCK + blocks[-1][2]


def folder_data(names: Sequence[bytes], slots: Sequence[int], modes: Sequence[int]) -> bytes:
    """What a folder holds: names in the order of their bytes, with the inodes they lead to."""
    data = bytearray()
    for begin, end, _ in folder_blocks(names):
        data += bytes(-len(data) % BLOCK)
        at = _NAME.size * (end - begin)
        for number in range(begin, end):
            data += _NAME.pack(slots[number], at, _KINDS[stat.S_IFMT(modes[number])])
            at += len(names[number])
        data += b"".join(names[begin:end])
    return bytes(data)


# -------------------------------------------------------------------------------------- attributes, chunks


def xattr_data(attributes: Attributes) -> bytes:
    """Extended attributes as they follow an inode; nothing, if there are none."""
    if not attributes:
        return b""
    data = bytearray(_XATTR_HEADER)
    for name, value in attributes:
        if name in ACLS:
            index, rest = 2 + ACLS.index(name), b""
        elif name == CAPABILITY:
            index, rest = 6, name.removeprefix(b"security.")
        else:
            index, rest = 1, name.removeprefix(b"user.")
        data += _XATTR.pack(len(rest), index, len(value)) + rest + value
        data += bytes(-len(data) % 4)
    return bytes(data)


def chunk_bits(size: int) -> int:
    """A chunk of a sparse file has two to the power of so many bytes."""
    bits = _FEWEST_CHUNK_BITS
    while size > _MOST_CHUNKS << bits:
        bits += 1
    return bits


class MetadataRoom:
    """Where inodes go: each with what belongs to it into one block, if it fits, else into its own blocks.

    Blocks that are partly full are kept by the slots they have left, so that later ones fill them.
    """

    def __init__(self, first_block: int) -> None:
        self.end = first_block * BLOCK
        """Where the metadata end, in bytes."""
        self._open: list[list[int]] = [[] for _ in range(BLOCK // SLOT + 1)]
        self._which = 0
        """Bit n is set when there is a block with n slots left."""

    def take(self, size: int) -> int:
        """Where `size` bytes go; a whole number of slots."""
        need = -(-size // SLOT)
        fitting = self._which >> need << need
        if need <= BLOCK // SLOT and fitting:
            left = (fitting & -fitting).bit_length() - 1
            blocks = self._open[left]
            at = blocks.pop()
            if not blocks:
                self._which ^= 1 << left
        else:
            at, left = self.end, -(-need * SLOT // BLOCK) * BLOCK // SLOT
            self.end += left * SLOT
        left -= need
        if left:
            self._open[left].append(at + need * SLOT)
            self._which |= 1 << left
        return at
