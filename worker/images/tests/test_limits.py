"""How much a build takes of bytes, time and memory, whatever the image."""

import gzip
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from worker.images.builders import ErofsDisk
from worker.images.deadline import Deadline
from worker.images.errors import TookTooLong, TooLarge
from worker.images.layout import Layout
from worker.images.records import GIB, MIB, Descriptor, Layer, Limits
from worker.images.spool import Spool
from worker.images.tests.crafting import (
    GZIP,
    Shelf,
    image_of,
    member,
    sha256,
    spooled,
    tar,
    tree_of,
)
from worker.images.tests.test_layers_of_all_sorts import pax_1_0
from worker.images.tree import Tree

LIMIT = 64 * MIB


class CountedSpool(Spool):
    """How large its files became, all together."""

    written = 0

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        with super().file() as file:
            kept = os.dup(file.fileno())
            try:
                yield file
            finally:
                self.written += os.fstat(kept).st_size
                os.close(kept)


def bomb(pack: object) -> tuple[Shelf, Layer]:
    """Some ten GiB of zeros in a few hundred KiB, as many members of 64 MiB."""
    assert callable(pack)
    blob = pack(bytes(64 * MIB)) * 160
    shelf = Shelf({sha256(blob): blob})
    return shelf, Layer(Descriptor(GZIP, sha256(blob), len(blob)), sha256(b"never read"))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_of_ten_gibibytes_is_stopped_at_the_limit(pack: object, tmp_path: Path) -> None:
    shelf, layer = bomb(pack)
    spool = CountedSpool(tmp_path)
    limits = Limits(unpacked_bytes=LIMIT, ratio=10**9)
    began = time.monotonic()
    with spool.file() as target, pytest.raises(TooLarge):
        ErofsDisk().build(image_of([layer]), shelf, target, spool, limits)
    assert time.monotonic() - began < 10
    assert spool.written - layer.blob.size <= 1.02 * LIMIT
    assert list(tmp_path.iterdir()) == []


def test_the_limit_is_of_all_layers_together(tmp_path: Path) -> None:
    shelf = Shelf()
    layers = [shelf.put(tar(member(f"{n}", data=os.urandom(MIB)))) for n in range(20)]
    spool = CountedSpool(tmp_path)
    limits = Limits(unpacked_bytes=10 * MIB)
    with spool.file() as target, pytest.raises(TooLarge):
        ErofsDisk().build(image_of(layers), shelf, target, spool, limits)
    packed = sum(layer.blob.size for layer in layers)
    assert spool.written - packed <= 1.02 * limits.unpacked_bytes


def test_other_layers_are_given_up_when_one_is_bad(tmp_path: Path) -> None:
    """The good one alone would take its time."""
    good, large = bomb(gzip.compress)
    bad = good.put(tar(member("x")), b"rubbish")
    limits = Limits(unpacked_bytes=1000 * GIB, ratio=10**9)
    spool = Spool(tmp_path)
    began = time.monotonic()
    with spool.file() as target, pytest.raises(Exception, match="digest"):
        ErofsDisk().build(image_of([bad, large]), good, target, spool, limits)
    assert time.monotonic() - began < 10


def test_a_disk_that_is_larger_than_allowed_is_not_begun(tmp_path: Path) -> None:
    shelf, spool = Shelf(), CountedSpool(tmp_path)
    layer = shelf.put(tar(member("f", data=bytes(3 * MIB))))
    with spool.file() as target, pytest.raises(TooLarge):
        ErofsDisk().build(image_of([layer]), shelf, target, spool, Limits(disk_bytes=2 * MIB))
    assert spool.written < 3.1 * MIB


def test_time_is_watched_after_layers_are_unpacked_too(tmp_path: Path) -> None:
    ticks = iter(range(10**6))
    deadline = Deadline(Limits().duration, clock=lambda: float(next(ticks)))
    tree = Tree(Limits(), deadline)
    with pytest.raises(TookTooLong):
        tree.apply(spooled(tar(*[member(f"{n}") for n in range(2000)])))


def test_maps_of_holes_are_not_kept_in_memory() -> None:
    """Each file's map has 16,384 numbers on the disk, and one line in the archive."""
    tree = tree_of(b"".join(pax_1_0(f"{n}", [], 2**44, b"")[:2048] for n in range(300)))
    tracemalloc.start()
    try:
        layout = Layout(tree)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert layout.size > 300 * 65536
    assert most < 4 * MIB


MEASURED = """
import hashlib, os, resource, sys, tarfile
from worker.images.builders import ErofsDisk
from worker.images.records import Descriptor, Layer, Limits
from worker.images.spool import Spool
from worker.images.tests.crafting import image_of

count, size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def written(number):
    info = tarfile.TarInfo(f"usr/share/folder{number // 20}/file-{number}")
    info.size, info.mtime = size, 1_600_000_000 + number
    yield info.tobuf(tarfile.USTAR_FORMAT)
    for at in range(0, size, 1 << 20):
        yield bytes([number % 256]) * min(1 << 20, size - at)
    yield bytes(-size % 512)

check = hashlib.sha256()
path = f"{folder}/layer.tar"
with open(path, "wb") as file:
    for number in range(count):
        for data in written(number):
            check.update(data)
            file.write(data)
layer = Layer(Descriptor("", "sha256:" + "0" * 64, os.path.getsize(path)), "sha256:" + check.hexdigest())

class Blobs:
    def pull(self, blob, into):
        with open(path, "rb") as file:
            while data := file.read(1 << 20):
                into.write(data)

def kib(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1])

spool = Spool(folder)
with spool.file() as target:
    ErofsDisk().build(image_of([layer]), Blobs(), target, spool, Limits())
print("peak", kib("VmHWM"))
"""


def peak(count: int, size: int, folder: Path) -> int:
    """Bytes that a process of its own has at most while it builds `count` files of `size` bytes."""
    command = [sys.executable, "-c", MEASURED, str(count), str(size), str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=115, check=True)
    found = re.search(r"peak (\d+)", told.stdout)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read memory from")
@pytest.mark.parametrize(("count", "size"), [(10, 50_000_000), (100_000, 0), (30_000, 10_000)])
def test_memory_is_64_mib_and_200_bytes_an_entry(count: int, size: int, tmp_path: Path) -> None:
    entries = count + count // 20
    assert peak(count, size, tmp_path) <= 64 * MIB + 200 * entries
