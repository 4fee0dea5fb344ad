"""From an image to a root disk. Each format, and each change of its bytes, is a builder of its own name.

docs/design/0003-root-disk-as-tar.md says why the first one is what it is.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import BinaryIO, Final, Protocol

from worker.images.archive import unpack
from worker.images.deadline import Deadline
from worker.images.errors import TooLarge
from worker.images.merged import archive_of
from worker.images.records import MIB, Descriptor, Layer, Limits, Resolved, RootDisk
from worker.images.spool import Spool, full_is_told
from worker.images.tree import Tree

BLOCK_BYTES: Final = 4096
"""Holes are as fine as this; the archive of a "tar-1" disk begins at the second block."""


class Blobs(Protocol):
    """Where layers come from."""

    def pull(self, blob: Descriptor, into: BinaryIO) -> None:
        """Write the blob's bytes, checked against digest and size. Raises ImageError's kinds."""
        ...


class Builder(Protocol):
    """A way of making root disks. Same layers: same bytes, on any machine."""

    @property
    def name(self) -> str:
        """Format and version: what a golden disk is known by, beside the image's digest."""
        ...

    def build(
        self, image: Resolved, blobs: Blobs, target: BinaryIO, spool: Spool, limits: Limits
    ) -> RootDisk:
        """Write the disk to `target`, an empty file; zeros are left as holes. Raises ImageError's kinds."""
        ...


class TarDisk:
    """ "tar-1": one block that says so, then the merged files as one tar archive, then zeros to the MiB."""

    name: Final = "tar-1"

    def build(
        self, image: Resolved, blobs: Blobs, target: BinaryIO, spool: Spool, limits: Limits
    ) -> RootDisk:
        with ExitStack() as stack:
            tree = merge(image.layers, blobs, spool, limits, stack)
            disk = DiskWriter(target, limits, tree.deadline)
            with full_is_told():
                disk.write(tar_disk_head())
                for piece in archive_of(tree):
                    disk.write(piece)
                return disk.finish(self.name)


def merge(
    layers: Iterable[Layer], blobs: Blobs, spool: Spool, limits: Limits, stack: ExitStack
) -> Tree:
    """Pull and unpack the layers into the spool and put them upon each other.

    The tree reads file contents from the spool, so it is good until `stack` is closed.
    """
    tree = Tree(limits, Deadline(limits.duration))
    archives: dict[str, BinaryIO] = {}
    left = limits.unpacked_bytes
    for layer in layers:
        if layer.diff_id not in archives:
            archive = stack.enter_context(spool.file())
            with spool.file() as packed:
                blobs.pull(layer.blob, packed)
                left -= unpack(layer, packed, archive, limits, left, tree.deadline)
            archives[layer.diff_id] = archive
        tree.apply(archives[layer.diff_id])
    return tree


def tar_disk_head() -> bytes:
    """The first block: lines of text, then zeros."""
    text = f"bulkhead-root 1\nformat tar\noffset {BLOCK_BYTES}\n"
    return text.encode().ljust(BLOCK_BYTES, b"\0")


class DiskWriter:
    """Writes a disk from its first byte to its last: counted, hashed, and sparse."""

    def __init__(self, target: BinaryIO, limits: Limits, deadline: Deadline) -> None:
        self._target = target
        self._limits = limits
        self._deadline = deadline
        self._check = hashlib.sha256()
        self._size = 0
        self._waiting = bytearray()

    def write(self, piece: bytes) -> None:
        """Raises TooLarge, TookTooLong."""
        self._deadline.check()
        self._size += len(piece)
        if self._size > self._limits.disk_bytes:
            raise TooLarge(f"The image's files are larger than {self._limits.disk_bytes} bytes.")
        self._check.update(piece)
        self._waiting += piece
        whole = len(self._waiting) - len(self._waiting) % BLOCK_BYTES
        if whole >= MIB:
            self._flush(whole)

    def finish(self, builder: str) -> RootDisk:
        """Zeros up to the next whole MiB. What was written is in the file when this returns."""
        padding = -self._size % MIB
        self._check.update(bytes(padding))
        self._waiting += bytes(padding)
        self._size += padding
        self._flush(len(self._waiting))
        self._target.truncate(self._size)
        self._target.flush()
        return RootDisk(self._size, self._check.hexdigest(), builder)

    def _flush(self, length: int) -> None:
        for start in range(0, length, BLOCK_BYTES):
            block = self._waiting[start : start + BLOCK_BYTES]
            if block.count(0) == len(block):
                self._target.seek(len(block), 1)
            else:
                self._target.write(block)
        del self._waiting[:length]


def disk_pieces(disk: BinaryIO, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a disk file, MiB by MiB, in order, without those of zeros only.

    What `Hypervisor.import_vdi` takes.
    """
    for offset in range(0, size_bytes, MIB):
        disk.seek(offset)
        piece = disk.read(min(MIB, size_bytes - offset))
        if piece.count(0) != len(piece):
            yield offset, piece


CURRENT: Final[Builder] = TarDisk()
"""What new images are built with."""
