"""The kernel: its ELF, taken out of a bzImage; its modules, with what each needs."""

from __future__ import annotations

import lzma
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from deploy.guest.boot.packages import run_binary

LZ4_LEGACY = b"\x02\x21\x4c\x18"
# What of the kernel a guest needs, by when it is loaded (modules.c).
MODULES = {
    "xen": ["xen-blkfront", "xen-netfront"],
    "virtio": ["virtio_pci", "virtio_blk", "virtio_net"],
    "ata": ["ata_piix", "sd_mod"],
    "erofs": ["erofs"],
    "squashfs": ["squashfs"],
    "overlay": ["overlay"],
}


def elf_of(image: bytes) -> bytes:
    """The ELF inside a bzImage: Linux's Documentation/arch/x86/boot.rst, payload_offset and payload_length."""
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("no boot header: not a bzImage")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(sectors + 1) * 512 + offset :][:length]
    if payload.startswith(b"\xfd7zXZ"):
        elf = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(31).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        elf = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    elif payload.startswith(LZ4_LEGACY):
        # Its last four bytes are the unpacked size, not LZ4's.
        elf = run_binary("lz4", "-dcq", given=payload[:-4])
    else:
        raise ValueError(f"a kernel packed in a way not known here: {payload[:6].hex()}")
    if not elf.startswith(b"\x7fELF"):
        raise ValueError("what was packed is no ELF")
    return elf


def plain(name: str) -> str:
    """A module's name as the kernel has it: a file may have it with "-"."""
    return name.replace("-", "_")


class Modules:
    """A kernel's modules below one folder, e.g. lib/modules/6.1.0-56-cloud-amd64."""

    def __init__(self, folder: Path) -> None:
        self.files = {plain(file.stem): file for file in sorted(folder.rglob("*.ko"))}
        builtin = folder / "modules.builtin"
        self.builtin = {plain(Path(line).stem) for line in builtin.read_text().split()}

    def _needs(self, name: str) -> list[str]:
        found = re.search(rb"\0depends=([^\0]*)\0", self.files[name].read_bytes())
        return [plain(word) for word in found[1].decode().split(",") if word] if found else []

    def with_needs(self, names: Iterable[str]) -> Iterator[Path]:
        """These modules, each after what it needs; those built in are left out."""
        seen: set[str] = set()

        def visit(name: str) -> Iterator[Path]:
            if name in seen or name in self.builtin:
                return
            seen.add(name)
            if name not in self.files:
                raise ValueError(f"this kernel has no module {name}")
            for need in self._needs(name):
                yield from visit(need)
            yield self.files[name]

        for name in names:
            yield from visit(plain(name))
