"""Layers made by hand, and a registry that is only a dictionary."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from worker.images.builders import BLOCK_BYTES, CURRENT
from worker.images.deadline import Deadline
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


def tree_of(*layers: bytes, limits: Limits | None = None) -> Tree:
    tree = Tree(limits or Limits(), NEVER)
    for layer in layers:
        tree.apply(io.BytesIO(layer))
    return tree


def paths(*layers: bytes) -> list[str]:
    """Every name in the merged image but the root's."""
    return [path for path, _ in tree_of(*layers).walk()][1:]


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


def build(spool: Path, *archives: bytes, limits: Limits | None = None) -> tuple[RootDisk, bytes]:
    """The disk of these layers, and its bytes."""
    shelf = Shelf()
    image = image_of([shelf.put(archive) for archive in archives])
    with Spool(spool).file() as target:
        disk = CURRENT.build(image, shelf, target, Spool(spool), limits or Limits())
        target.seek(0)
        return disk, target.read()


@contextmanager
def unpacked(disk: bytes) -> Iterator[tarfile.TarFile]:
    """The archive on a "tar-1" disk, as any reader of tar sees it."""
    archive = io.BytesIO(disk[BLOCK_BYTES:])
    with tarfile.open(fileobj=archive, errors="surrogateescape") as reader:
        yield reader
