"""The disk "tar-1": docs/design/0003-root-disk-as-tar.md."""

import hashlib
import tarfile
from pathlib import Path

import pytest

from worker.images.builders import BLOCK_BYTES, CURRENT
from worker.images.records import MIB, Limits
from worker.images.spool import Spool
from worker.images.tests.crafting import (
    Shelf,
    build,
    folder,
    hard,
    image_of,
    link,
    member,
    tar,
    unpacked,
)

LAYER = tar(
    folder("etc", mode=0o750, uid=3, gid=4),
    member("etc/passwd", data=b"root\n", mtime=1_700_000_000, uname="root"),
    hard("etc/shadow", "etc/passwd"),
    link("etc/link", "passwd"),
    member("dev", tarfile.CHRTYPE, devmajor=1, devminor=3),
    member("\udcff" + "n" * 200, pax_headers={"SCHILY.xattr.user.x": "\udcfe\0"}),
    member("big", uid=2**31, data=b"z" * 5000),
)


def test_the_first_block_says_what_the_disk_is(tmp_path: Path) -> None:
    _, disk = build(tmp_path, LAYER)
    assert disk[:BLOCK_BYTES].rstrip(b"\0") == b"bulkhead-root 1\nformat tar\noffset 4096\n"


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    _, disk = build(tmp_path, LAYER)
    with unpacked(disk) as archive:
        passwd, etc = archive.getmember("etc/passwd"), archive.getmember("etc")
        content = archive.extractfile(passwd)
        assert content is not None
        assert content.read() == b"root\n"
        assert (passwd.mtime, passwd.uname) == (1_700_000_000, "")
        assert (etc.mode, etc.uid, etc.gid) == (0o750, 3, 4)
        assert archive.getmember("etc/link").linkname == "passwd"
        assert archive.getmember("etc/shadow").linkname == "etc/passwd"
        assert archive.getmember("dev").devminor == 3
        assert archive.getmember("big").uid == 2**31
        strange = archive.getmember("\udcff" + "n" * 200)
        assert strange.pax_headers["SCHILY.xattr.user.x"] == "\udcfe\0"


def test_the_same_layers_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path, LAYER, LAYER), build(tmp_path, LAYER, LAYER)
    assert first == second


def test_how_a_layer_is_packed_makes_no_difference(tmp_path: Path) -> None:
    shelf, spool = Shelf(), Spool(tmp_path)
    image = image_of([shelf.put(LAYER, LAYER)])
    with spool.file() as target:
        disk = CURRENT.build(image, shelf, target, spool, Limits())
    assert disk == build(tmp_path, LAYER)[0]


def test_the_order_in_an_archive_makes_no_difference(tmp_path: Path) -> None:
    members = [member("b", data=b"2"), folder("a"), member("a/x", data=b"1")]
    forth, back = build(tmp_path, tar(*members)), build(tmp_path, tar(*reversed(members)))
    assert forth == back


def test_bytes_change_only_with_the_builders_name(tmp_path: Path) -> None:
    """Golden disks are known by the builder's name: other bytes need another name."""
    disk, content = build(tmp_path, LAYER)
    assert disk.sha256 == hashlib.sha256(content).hexdigest()
    assert (disk.builder, disk.size_bytes, disk.sha256[:16]) == (
        "tar-1",
        MIB,
        "e016e35b0ea3c45b",
    )


def test_an_image_without_files_is_a_disk_too(tmp_path: Path) -> None:
    disk, content = build(tmp_path)
    assert disk.size_bytes == len(content) == MIB
    with unpacked(content) as archive:
        assert archive.getnames() == ["."]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, MIB - 8192, MIB, 3 * MIB + 1])
def test_disks_are_whole_mebibytes(tmp_path: Path, size: int) -> None:
    disk, content = build(tmp_path, tar(member("f", data=b"x" * size)))
    assert disk.size_bytes % MIB == 0
    assert disk.size_bytes == len(content)
    with unpacked(content) as archive:
        assert archive.getmember("f").size == size


def test_holes_take_no_room_in_the_file(tmp_path: Path) -> None:
    shelf = Shelf()
    zeros = tar(member("f", data=b"begin" + bytes(8 * MIB) + b"end"))
    spool = Spool(tmp_path)
    with spool.file() as target:
        disk = CURRENT.build(image_of([shelf.put(zeros)]), shelf, target, spool, Limits())
        target.seek(0)
        assert hashlib.sha256(target.read()).hexdigest() == disk.sha256
        occupied = Path(f"/proc/self/fd/{target.fileno()}").stat().st_blocks * 512
    assert occupied < MIB
    assert disk.size_bytes == 9 * MIB


SPARSE = [
    {"GNU.sparse.map": "2,3,10,2", "GNU.sparse.size": "20", "GNU.sparse.name": "f"},
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "20"},
]


@pytest.mark.parametrize("headers", SPARSE, ids=["pax-0.1", "pax-1.0"])
def test_sparse_files_are_whole_again(tmp_path: Path, headers: dict[str, str]) -> None:
    data = b"abcde"
    if "GNU.sparse.major" in headers:
        data = b"2\n2\n3\n10\n2\n".ljust(512, b"\0") + data
    _, disk = build(tmp_path, tar(member("f", data=data, pax_headers=headers)))
    with unpacked(disk) as archive:
        content = archive.extractfile("f")
        assert content is not None
        assert content.read() == b"\0\0abc\0\0\0\0\0de" + bytes(8)
