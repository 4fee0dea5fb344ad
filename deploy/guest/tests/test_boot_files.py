"""`make guest`: the files that boot a container's VM, and that they are the same from the same packages."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from deploy.guest.__main__ import build
from deploy.guest.boot.cpio import Archive
from deploy.guest.boot.kernel import elf_of

MIB = 2**20
NAMES = ("version", "vmlinuz", "vmlinux", "initramfs", "mbr.bin", "bios.img", "esp.img")


@pytest.mark.slow
def test_the_same_packages_give_the_same_bytes(boot_files: Path, tmp_path: Path) -> None:
    if (boot_files / "small/vmlinux").exists() or not (boot_files / ".cache").exists():
        pytest.skip("these boot files were made elsewhere, or around a kernel of one's own")
    build(tmp_path, cache=boot_files / ".cache")
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (boot_files / name).read_bytes(), name


def test_boot_code_finds_the_rest_where_the_disk_has_it(boot_files: Path) -> None:
    mbr, core = (boot_files / "mbr.bin").read_bytes(), (boot_files / "bios.img").read_bytes()
    assert len(mbr) == 440
    assert struct.unpack_from("<Q", mbr, 0x5C)[0] == 2048
    start, sectors, segment = struct.unpack_from("<QHH", core, 512 - 12)
    assert (start, sectors, segment) == (2049, len(core) // 512 - 1, 0x820)
    # The list of blocks ends there: what comes before is empty.
    assert struct.unpack_from("<QHH", core, 512 - 24) == (0, 0, 0)


def test_sizes_fit_the_disks_partitions(boot_files: Path) -> None:
    assert (boot_files / "bios.img").stat().st_size <= MIB
    assert (boot_files / "esp.img").stat().st_size % MIB == 0
    assert (boot_files / "vmlinux").read_bytes()[:4] == b"\x7fELF"
    assert len((boot_files / "version").read_text().splitlines()) == 1


def test_a_folder_is_in_an_archive_once_and_before_what_it_holds() -> None:
    archive = Archive()
    archive.file("a/b/c", b"12345")
    archive.link("a/d", "b")
    whole = archive.close()
    assert len(whole) % 4 == 0
    assert whole.count(b"a/b\0") == 1
    assert whole.index(b"a\0") < whole.index(b"a/b\0") < whole.index(b"a/b/c\0")


@pytest.mark.parametrize("image", [bytes(1024), b"\x7fELF" + bytes(1024)])
def test_what_is_no_kernel_image_is_refused(image: bytes) -> None:
    with pytest.raises(ValueError, match="not a bzImage"):
        elf_of(image)
