"""Layers made by hand, and a registry that is only a dictionary."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from worker.images.builders import ErofsDisk
from worker.images.deadline import Deadline
from worker.images.disk import BootFiles
from worker.images.inodes import inode_of
from worker.images.records import Descriptor, ImageConfig, Layer, Limits, Resolved, RootDisk
from worker.images.reference import Reference
from worker.images.spool import Spool
from worker.images.tree import Tree

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
NEVER = Deadline(timedelta(days=1))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **details: object
) -> tuple[tarfile.TarInfo, bytes]:
    """`details` are TarInfo's own attributes."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in details.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **details: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, b"", **details)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target)


def whiteout(name: str) -> tuple[tarfile.TarInfo, bytes]:
    above, slash, last = name.rpartition("/")
    return member(f"{above}{slash}.wh.{last}")


def opaque(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"{name}/.wh..wh..opq")


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


OPEN: list[BinaryIO] = []
"""What a test's spooled() gave; closed when the test is over."""


def spooled(archive: bytes) -> BinaryIO:
    """The archive in a file, as a spool has it."""
    file = os.fdopen(os.memfd_create("layer"), "w+b")
    OPEN.append(file)
    file.write(archive)
    file.flush()
    return file


def tree_of(*layers: bytes, limits: Limits | None = None) -> Tree:
    tree = Tree(limits or Limits(), NEVER)
    for layer in layers:
        tree.apply(spooled(layer))
    return tree


def walk(tree: Tree) -> dict[str, int]:
    """Each name with its inode's number, folders before what is in them, else in the order of their bytes."""
    found: dict[str, int] = {}
    waiting = [(b"", 0)]
    while waiting:
        path, inode = waiting.pop()
        found[os.fsdecode(path)] = inode
        for name, value in sorted((tree.inodes.folder(inode) or {}).items(), reverse=True):
            waiting.append((path + b"/" * bool(path) + name, inode_of(value)))
    return found


def paths(*layers: bytes) -> list[str]:
    """Every name in the merged image but the root's."""
    return list(walk(tree_of(*layers)))[1:]


@dataclass
class Shelf:
    """Blobs by digest, unchecked."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def put(self, archive: bytes, blob: bytes | None = None) -> Layer:
        blob = gzip.compress(archive, mtime=0) if blob is None else blob
        self.blobs[sha256(blob)] = blob
        return Layer(Descriptor(GZIP, sha256(blob), len(blob)), sha256(archive))

    def pull(self, blob: Descriptor, into: BinaryIO) -> None:
        into.write(self.blobs[blob.digest])


def image_of(layers: Iterable[Layer]) -> Resolved:
    digest = "sha256:" + "0" * 64
    return Resolved(Reference("r.example", "a", None, digest), digest, ImageConfig(), tuple(layers))


def build(
    spool: Path, *archives: bytes, limits: Limits | None = None, boot: BootFiles | None = None
) -> tuple[RootDisk, bytes]:
    """The disk of these layers, and its bytes."""
    shelf = Shelf()
    return build_of(spool, shelf, [shelf.put(one) for one in archives], limits=limits, boot=boot)


def build_of(
    spool: Path,
    shelf: Shelf,
    layers: Iterable[Layer],
    *,
    limits: Limits | None = None,
    boot: BootFiles | None = None,
) -> tuple[RootDisk, bytes]:
    with Spool(spool).file() as target:
        disk = ErofsDisk(boot).build(
            image_of(layers), shelf, target, Spool(spool), limits or Limits()
        )
        target.seek(0)
        return disk, target.read()
