"""What lets a disk start the kernel: GRUB for BIOS and for UEFI, and the EFI system partition.

GRUB's places to fill in are those that grub-bios-setup fills in (util/setup.c, include/grub/i386/pc/boot.h).
"""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

from deploy.guest.boot.packages import run

SECTOR = 512
MIB = 2**20
BIOS_LBA = 2048  # where the builder of disks puts bios.img
MBR_BYTES = 440
ARGUMENTS = "console=ttyS0 console=hvc0 panic=1 net.ifnames=0 quiet random.trust_cpu=on"
# GRUB runs this without its shell: a menu, a prompt or a wait could only hold a guest up.
SCRIPT = f"linux /vmlinuz {ARGUMENTS}\ninitrd /initramfs\nboot\nhalt\n"
MODULES = ("part_gpt", "fat", "linux", "boot", "halt")
KERNEL_SECTOR, DRIVE_CHECK = 0x5C, 0x66
FIRST_BLOCK = SECTOR - 12  # start (8 bytes), sectors (2), segment (2)
# FAT: nothing in the image may tell when it was made.
VOLUME_ID = "42554c4b"
EPOCH = 946684800  # 2000-01-01, the first year but twenty that FAT can say


def grub(tree: Path, target: str, *modules: str) -> bytes:
    """GRUB's core for i386-pc or x86_64-efi, with its script inside."""
    with tempfile.TemporaryDirectory() as folder:
        script, image = Path(folder, "grub.cfg"), Path(folder, "core")
        script.write_text(SCRIPT)
        run(
            "grub-mkimage",
            f"--directory={tree / 'usr/lib/grub' / target}",
            f"--format={target}",
            f"--config={script}",
            f"--output={image}",
            "--prefix=(,gpt2)/",
            *MODULES,
            *modules,
            env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        )
        return image.read_bytes()


def bios(tree: Path) -> tuple[bytes, bytes]:
    """mbr.bin and bios.img, the latter for LBA 2048."""
    mbr = bytearray((tree / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:MBR_BYTES])
    struct.pack_into("<Q", mbr, KERNEL_SECTOR, BIOS_LBA)
    # Some BIOSes say that they start a floppy: believe none, as for any hard disk.
    struct.pack_into("<H", mbr, DRIVE_CHECK, 0x9090)
    core = bytearray(grub(tree, "i386-pc", "biosdisk"))
    core += bytes(-len(core) % SECTOR)
    sectors = len(core) // SECTOR - 1
    listed = struct.unpack_from("<H", core, FIRST_BLOCK + 8)[0]
    if listed != sectors or len(core) > MIB:
        raise ValueError(f"GRUB's core lists {listed} sectors and has {sectors}")
    struct.pack_into("<Q", core, FIRST_BLOCK, BIOS_LBA + 1)
    return bytes(mbr), bytes(core)


def esp(tree: Path, kernel: bytes, initramfs: bytes) -> bytes:
    """The EFI system partition: UEFI's default loader, and the files that both GRUBs read."""
    loader = grub(tree, "x86_64-efi")
    content = {"vmlinuz": kernel, "initramfs": initramfs, "BOOTX64.EFI": loader}
    size = sum(len(data) for data in content.values()) + MIB
    size += -size % MIB
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "esp")
        with image.open("wb") as file:
            file.truncate(size)
        run("mkfs.fat", "--invariant", "-i", VOLUME_ID, "-n", "BULKHEAD", image)
        env = {"TZ": "UTC", "SOURCE_DATE_EPOCH": str(EPOCH), "MTOOLS_SKIP_CHECK": "1"}
        run("mmd", "-i", image, "::EFI", "::EFI/BOOT", env=env)
        for name, data in content.items():
            file_path = Path(folder, name)
            file_path.write_bytes(data)
            os.utime(file_path, (EPOCH, EPOCH))
            where = f"::EFI/BOOT/{name}" if name.endswith(".EFI") else f"::{name}"
            run("mcopy", "-m", "-i", image, file_path, where, env=env)
        return image.read_bytes()
