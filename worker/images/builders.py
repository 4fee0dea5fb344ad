"""From an image to a root disk. Each format, and each change of its bytes, is a builder of its own name.

docs/design/0007-root-file-system.md says why disks are what they are.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from worker.images.archive import Room, unpack
from worker.images.deadline import Deadline
from worker.images.disk import BootFiles, disk_size, root_at, write_around
from worker.images.layout import Layout
from worker.images.records import MIB, Descriptor, Layer, Limits, Resolved, RootDisk
from worker.images.spool import Spool, full_is_told
from worker.images.tree import Tree

_UNPACKING: Final = 2
"""Layers at a time; each has two threads, which leave Python's lock most of the time."""


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


@dataclass(frozen=True)
class ErofsDisk:
    """ "erofs-2": a GUID partition table, boot files if there are any, and the merged files as EROFS."""

    boot: BootFiles | None = None

    @property
    def name(self) -> str:
        return f"erofs-2+{self.boot.version}" if self.boot else "erofs-2"

    def build(
        self, image: Resolved, blobs: Blobs, target: BinaryIO, spool: Spool, limits: Limits
    ) -> RootDisk:
        identity = _identity(image.layers)
        with ExitStack() as stack, full_is_told():
            layout = Layout(merge(image.layers, blobs, spool, limits, stack))
            size = disk_size(self.boot, layout.size)
            target.truncate(size)
            write_around(target, self.boot, layout.size, identity)
            layout.write(target, root_at(self.boot), identity)
        return RootDisk(size, self.name)


def _identity(layers: Iterable[Layer]) -> bytes:
    """16 bytes that stand for the files: the same for the same layers, however they are packed."""
    return hashlib.sha256("\n".join(layer.diff_id for layer in layers).encode()).digest()[:16]


def merge(
    layers: Iterable[Layer], blobs: Blobs, spool: Spool, limits: Limits, stack: ExitStack
) -> Tree:
    """Pull and unpack the layers into the spool and put them upon each other.

    While one is pulled, others are unpacked. The tree reads file contents from the spool, so it is good
    until `stack` is closed.
    """
    deadline = Deadline(limits.duration)
    room = Room(limits)
    layers = tuple(layers)
    archives: dict[str, BinaryIO] = {}

    def unpacked(layer: Layer, packed: BinaryIO, archive: BinaryIO) -> None:
        with packed:  # given back as soon as it is of no more use
            unpack(layer, packed, archive, limits, room, deadline)

    with ThreadPoolExecutor(_UNPACKING) as pool, deadline.over_on_error():
        under_way: list[Future[None]] = []
        for layer in layers:
            if layer.diff_id in archives:
                continue
            packed = stack.enter_context(spool.file())
            archive = archives[layer.diff_id] = stack.enter_context(spool.file())
            blobs.pull(layer.blob, packed)
            under_way.append(pool.submit(unpacked, layer, packed, archive))
            for one in under_way:
                if one.done():
                    one.result()  # no more is pulled when one is bad
        for one in wait(under_way, return_when=FIRST_EXCEPTION).done:
            one.result()
    tree = Tree(limits, deadline)
    for layer in layers:
        tree.apply(archives[layer.diff_id])
    return tree


def disk_pieces(disk: BinaryIO, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of a disk file, MiB by MiB, in order, without those of zeros only.

    What `Hypervisor.import_vdi` takes.
    """
    for offset in range(0, size_bytes, MIB):
        disk.seek(offset)
        piece = disk.read(min(MIB, size_bytes - offset))
        if piece.count(0) != len(piece):
            yield offset, piece
