"""The disk "erofs-2", read back: docs/design/0007-root-file-system.md."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from worker.images.builders import ErofsDisk
from worker.images.layout import Layout
from worker.images.records import MIB, Limits
from worker.images.spool import Spool
from worker.images.tests.crafting import (
    Shelf,
    build,
    build_of,
    folder,
    hard,
    image_of,
    link,
    member,
    tar,
    tree_of,
)
from worker.images.tests.reading import BLOCK, files, root_of

CAPABILITY = "\1\0\0\2" + "\0\4\0\0" + "\0" * 12
LAYER = tar(
    folder("etc", mode=0o750, uid=3, gid=4),
    member("etc/passwd", data=b"root\n", mtime=1_700_000_000, uname="root"),
    hard("etc/shadow", "etc/passwd"),
    link("etc/link", "passwd"),
    member("dev", tarfile.CHRTYPE, devmajor=1, devminor=3),
    member("disk", tarfile.BLKTYPE, devmajor=0xABC, devminor=0xABCDE),
    member("pipe", tarfile.FIFOTYPE, mode=0o620),
    member("\udcff" + "n" * 200, pax_headers={"SCHILY.xattr.user.x": "\udcfe\0"}),
    member("ping", mode=0o4755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY}),
    member("big", uid=2**31, data=b"z" * 5000),
)


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    _, disk = build(tmp_path, LAYER)
    found = files(disk)
    passwd = found[b"etc/passwd"]
    assert (passwd.content, passwd.mtime, passwd.links) == (b"root\n", 1_700_000_000, 2)
    assert found[b"etc/shadow"].inode == passwd.inode
    etc = found[b"etc"]
    assert (etc.permissions, etc.uid, etc.gid, etc.links) == (0o750, 3, 4, 2)
    assert found[b"etc/link"].content == b"passwd"
    assert found[b"dev"].device == (1, 3)
    assert found[b"disk"].device == (0xABC, 0xABCDE)
    assert found[b"pipe"].permissions == 0o620
    assert found[b"ping"].permissions == 0o4755
    assert found[b"ping"].xattrs == {b"security.capability": CAPABILITY.encode()}
    assert found[b"\xff" + b"n" * 200].xattrs == {b"user.x": b"\xfe\0"}
    assert (found[b"big"].uid, found[b"big"].content) == (2**31, b"z" * 5000)
    assert found[b""].links == 3


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path, LAYER, LAYER), build(tmp_path, LAYER, LAYER)
    assert first == second


PRINTED = """
import hashlib, sys, os
from pathlib import Path
from worker.images.tests.crafting import build
from worker.images.tests.test_root_disk import LAYER
from worker.images.tests.test_layers_of_all_sorts import SPARSE_LAYERS
os.umask(int(sys.argv[2], 8))
for _ in range(10):
    disk = build(Path(sys.argv[1]), LAYER, *SPARSE_LAYERS, LAYER)[1]
    print(hashlib.sha256(disk).hexdigest())
"""


def test_a_hundred_builds_in_ten_processes_give_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the process: other hashes of strings, time zone, umask."""
    digests = []
    for seed in range(10):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "TZ": f"UTC{seed - 5:+d}"}
        command = [sys.executable, "-c", PRINTED, str(tmp_path), f"0{seed % 8}7"]
        told = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        digests += told.stdout.split()
    assert len(digests) == 100
    assert len(set(digests)) == 1


def test_how_a_layer_is_packed_makes_no_difference(tmp_path: Path) -> None:
    shelf = Shelf()
    assert build_of(tmp_path, shelf, [shelf.put(LAYER, LAYER)]) == build(tmp_path, LAYER)


def test_the_order_in_an_archive_makes_no_difference_to_what_is_in_it(tmp_path: Path) -> None:
    members = [member("b", data=b"2"), folder("a"), member("a/x", data=b"1")]
    forth, back = build(tmp_path, tar(*members)), build(tmp_path, tar(*reversed(members)))
    told = [{path: one.content for path, one in files(disk).items()} for _, disk in (forth, back)]
    assert told[0].keys() == told[1].keys()
    assert told[0][b"a/x"] == told[1][b"a/x"] == b"1"


def test_bytes_change_only_with_the_builders_name(tmp_path: Path) -> None:
    """Golden disks are known by the builder's name: other bytes need another name."""
    disk, content = build(tmp_path, LAYER)
    told = (disk.builder, disk.size_bytes, hashlib.sha256(content).hexdigest()[:16])
    assert told == ("erofs-2", 2 * MIB, "7ac9397de4dda65f")


def test_an_image_without_files_is_a_disk_too(tmp_path: Path) -> None:
    disk, content = build(tmp_path)
    assert disk.size_bytes == len(content) == 2 * MIB
    assert list(files(content)) == [b""]


EDGES = [
    *(0, 1, BLOCK - 65, BLOCK - 64, BLOCK - 63, BLOCK - 1, BLOCK, BLOCK + 1),
    *(2 * BLOCK - 64, MIB - 8192, MIB, 3 * MIB + 1),
]


@pytest.mark.parametrize("size", EDGES)
def test_files_of_any_size_come_back_and_disks_are_whole(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    disk, content = build(tmp_path, tar(member("f", data=data), member("g", data=data[:100])))
    assert disk.size_bytes % (2 * MIB) == 0
    assert disk.size_bytes == len(content)
    found = files(content)
    assert found[b"f"].content == data
    assert found[b"g"].content == data[:100]


@pytest.mark.parametrize("length", [1, 59, 3000, 4031, 4032, 4033, 4095])
def test_links_of_any_length_come_back(tmp_path: Path, length: int) -> None:
    target = ("x" * 200 + "/") * 25
    _, disk = build(tmp_path, tar(link("l", target[:length])))
    assert files(disk)[b"l"].content == target[:length].encode()


@pytest.mark.parametrize("count", [0, 1, 13, 14, 15, 16, 300, 5000])
def test_folders_of_any_size_come_back_sorted(tmp_path: Path, count: int) -> None:
    wanted = [f"{number:0250d}" for number in range(count)]
    _, disk = build(tmp_path, tar(folder("d"), *[member(f"d/{name}") for name in wanted]))
    assert list(files(disk))[2:] == [f"d/{name}".encode() for name in wanted]


def test_names_before_a_dot_come_before_it(tmp_path: Path) -> None:
    """ "." and ".." stand among the names by the order of their bytes."""
    wanted = [b"!", b"+", b"-", b"...", b".a", b"0"]
    _, disk = build(tmp_path, tar(*[member(name.decode()) for name in wanted]))
    assert list(files(disk))[1:] == sorted(wanted)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5000, 65000])
def test_attributes_of_any_size_come_back(tmp_path: Path, size: int) -> None:
    value = "v" * size
    headers = {"SCHILY.xattr.user.a": value, "SCHILY.xattr.user.b": "b"}
    layer = tar(member("f", data=b"data", pax_headers=headers))
    found = files(build(tmp_path, layer)[1])[b"f"]
    assert found.xattrs == {b"user.a": value.encode(), b"user.b": b"b"}
    assert found.content == b"data"


def test_what_no_name_leads_to_is_not_on_the_disk(tmp_path: Path) -> None:
    secret = os.urandom(10_000)
    lower, upper = tar(member("key", data=secret)), tar(member(".wh.key"), member("f"))
    _, disk = build(tmp_path, lower, upper)
    assert list(files(disk)) == [b"", b"f"]
    assert not any(secret[at : at + 64] in disk for at in range(0, 10_000, 1000))


def test_the_file_systems_size_is_known_before_it_is_written() -> None:
    tree = tree_of(LAYER)
    layout = Layout(tree)
    with Spool("/tmp").file() as target:
        target.truncate(layout.size)
        layout.write(target, 0, bytes(16))
        target.seek(0)
        assert len(target.read()) == layout.size


def test_holes_of_the_target_stay_holes(tmp_path: Path) -> None:
    shelf = Shelf()
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(2**28),
        "GNU.sparse.name": "f",
    }
    data = b"1\n268435450\n6\n".ljust(512, b"\0") + b"theend"
    layer = shelf.put(tar(member("f", data=data, pax_headers=headers)))
    spool = Spool(tmp_path)
    with spool.file() as target:
        disk = ErofsDisk().build(image_of([layer]), shelf, target, spool, Limits())
        occupied = os.fstat(target.fileno()).st_blocks * 512
        target.seek(0)
        found = files(target.read())[b"f"]
    assert occupied < MIB
    assert disk.size_bytes == 2 * MIB
    assert len(found.content) == 2**28
    assert found.content.endswith(b"\0theend")


def test_a_root_file_system_says_how_many_inodes_it_has(tmp_path: Path) -> None:
    _, disk = build(tmp_path, tar(member("a"), hard("b", "a"), folder("c")))
    assert int.from_bytes(root_of(disk)[1024 + 16 : 1024 + 24], "little") == 3
