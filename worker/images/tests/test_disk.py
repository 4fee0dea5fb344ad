"""The disk around the root file system: GUID partition table, boot files."""

import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from uuid import UUID

import pytest

from worker.images.builders import ErofsDisk
from worker.images.disk import BootFiles, BootFilesInvalid
from worker.images.records import MIB
from worker.images.tests.crafting import build, member, tar
from worker.images.tests.reading import files, partitions

LAYER = tar(member("f", data=b"content" * 10_000))
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """What `make guest` would have made."""
    folder = tmp_path / "guest"
    folder.mkdir()
    (folder / "version").write_text("7.1-abc\n")
    (folder / "mbr.bin").write_bytes(b"\xeb" * 440)
    (folder / "bios.img").write_bytes(b"G" * 50_000)
    (folder / "esp.img").write_bytes(b"E" * (3 * MIB))
    return folder


def test_without_boot_files_only_the_root_is_on_the_disk(tmp_path: Path) -> None:
    _, disk = build(tmp_path, LAYER)
    (begin, end, kind) = partitions(disk)["bulkhead-root"]
    assert (begin, kind) == (2048 * 512, LINUX)
    assert end % 4096 == 0
    assert not any(disk[:440])


def test_boot_files_lie_where_a_firmware_looks_for_them(tmp_path: Path, boot: Path) -> None:
    _, disk = build(tmp_path, LAYER, boot=BootFiles.of(boot))
    assert disk[:440] == b"\xeb" * 440
    found = {name: (begin, end) for name, (begin, end, _) in partitions(disk).items()}
    root = 5 * MIB
    assert found["bulkhead-bios"] == (MIB, 2 * MIB)
    assert found["bulkhead-esp"] == (2 * MIB, root)
    assert found["bulkhead-root"][0] == root
    assert disk[MIB:][:50_000] == b"G" * 50_000
    assert disk[2 * MIB : root] == b"E" * (3 * MIB)
    assert files(disk)[b"f"].content == b"content" * 10_000


def test_both_headers_agree_and_add_up(tmp_path: Path) -> None:
    _, disk = build(tmp_path, LAYER)
    assert disk[510:512] == b"\x55\xaa"
    for at in (512, len(disk) - 512):
        header = bytearray(disk[at : at + 92])
        (told,) = struct.unpack_from("<I", header, 16)
        header[16:20] = bytes(4)
        assert zlib.crc32(header) == told
        own, other = struct.unpack_from("<QQ", header, 24)
        assert (own * 512, other * 512) == (at, len(disk) - 512 if at == 512 else 512)
        begin, count, size, told = struct.unpack_from("<QIII", header, 72)
        table = disk[begin * 512 :][: count * size]
        assert zlib.crc32(table) == told
        assert table == disk[1024:][: count * size]


def test_the_tables_lie_in_the_disks_first_and_last_page_with_their_headers(tmp_path: Path) -> None:
    """A kernel reads each page of them before it knows of a partition, one after the other."""
    _, disk = build(tmp_path, LAYER)
    for header, page in ((512, 0), (len(disk) - 512, len(disk) // 4096 - 1)):
        begin, count, size = struct.unpack_from("<QII", disk, header + 72)
        assert begin * 512 // 4096 == (begin * 512 + count * size - 1) // 4096 == page


def test_as_much_is_kept_for_each_table_as_the_specification_asks(tmp_path: Path) -> None:
    _, disk = build(tmp_path, LAYER)
    for header in (512, len(disk) - 512):
        first, last = struct.unpack_from("<QQ", disk, header + 40)
        assert first * 512 - 1024 >= 16384
        assert len(disk) - 512 - (last + 1) * 512 >= 16384


def test_a_disks_identifiers_are_its_contents_own(tmp_path: Path, boot: Path) -> None:
    def identifiers(disk: bytes) -> tuple[bytes, bytes]:
        return disk[512 + 56 : 512 + 72], disk[1024 + 16 : 1024 + 32]

    one, same = build(tmp_path, LAYER)[1], build(tmp_path, LAYER)[1]
    other = build(tmp_path, LAYER, tar(member("g")))[1]
    assert identifiers(one) == identifiers(same)
    assert identifiers(one) != identifiers(other)
    assert len({*identifiers(one), *identifiers(other)}) == 4


def test_a_builders_name_tells_the_version_of_its_boot_files(boot: Path) -> None:
    assert ErofsDisk().name == "erofs-2"
    assert ErofsDisk(BootFiles.of(boot)).name == "erofs-2+7.1-abc"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("version", b""),
        ("version", b"two words"),
        ("version", b"x" * 31),
        ("mbr.bin", bytes(441)),
        ("bios.img", bytes(MIB + 1)),
        ("esp.img", b""),
        ("esp.img", bytes(MIB + 512)),
    ],
)
def test_boot_files_that_do_not_fit_are_refused(boot: Path, name: str, content: bytes) -> None:
    (boot / name).write_bytes(content)
    with pytest.raises(BootFilesInvalid, match=name):
        BootFiles.of(boot)


def test_boot_files_that_are_missing_are_missed(boot: Path) -> None:
    (boot / "esp.img").unlink()
    with pytest.raises(FileNotFoundError):
        BootFiles.of(boot)


TOOLS = [
    ["sgdisk", "--verify"],
    ["sfdisk", "--verify"],
    ["parted", "--script", "--machine"],
]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: str(tool[0]))
@pytest.mark.parametrize("with_boot", [False, True], ids=["root", "boot"])
def test_other_programs_find_no_fault(
    tmp_path: Path, boot: Path, tool: list[str], with_boot: bool
) -> None:
    if not shutil.which(tool[0]):
        pytest.skip(f"{tool[0]} is not installed (apt-get install gdisk fdisk parted)")
    _, disk = build(tmp_path, LAYER, boot=BootFiles.of(boot) if with_boot else None)
    image = tmp_path / "disk.img"
    image.write_bytes(disk)
    behind = ["unit", "B", "print"] if tool[0] == "parted" else []
    told = subprocess.run(
        [*tool, str(image), *behind], capture_output=True, text=True, timeout=30, check=False
    )
    assert told.returncode == 0, told.stderr
    assert not told.stderr
    if tool[0] == "sgdisk":
        assert "No problems found" in told.stdout
    if tool[0] == "sfdisk":
        assert "No errors detected" in told.stdout
    if tool[0] == "parted":
        assert "bulkhead-root" in told.stdout
        assert ("bulkhead-esp" in told.stdout) == with_boot
