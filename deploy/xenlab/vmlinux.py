"""Takes the ELF kernel out of a bzImage: what gets it has nothing to decompress, slow when emulated.

The header's fields are those of the kernel's Documentation/arch/x86/boot.rst: `setup_sects` at 0x1f1,
`payload_offset` and `payload_length` at 0x248.
"""

from __future__ import annotations

import lzma
import struct
import subprocess
import zlib

from deploy.xenlab.errors import XenlabError

SECTOR = 512


def vmlinux_of(image: bytes) -> bytes:
    """The uncompressed kernel; raises XenlabError `not_a_kernel`."""
    if image[0x202:0x206] != b"HdrS":
        raise XenlabError("not_a_kernel", "the file has no Linux boot header")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    elf = _unpacked(image[(sectors + 1) * SECTOR + offset :][:length])
    if elf[:4] != b"\x7fELF":
        raise XenlabError("not_a_kernel", "what the kernel image packs is not an ELF file")
    return elf


def _unpacked(payload: bytes) -> bytes:
    match payload[:4]:
        case b"\xfd7zX":
            # The kernel's own length follows the xz stream.
            return lzma.LZMADecompressor().decompress(payload)
        case magic if magic[:2] == b"\x1f\x8b":
            return zlib.decompressobj(31).decompress(payload)
        case b"\x28\xb5\x2f\xfd":
            return _through(["zstd", "-dcq"], payload)
        case b"\x02\x21\x4c\x18":
            return _through(["lz4", "-dcq"], payload[:-4])
        case magic:
            raise XenlabError(
                "not_a_kernel", f"the kernel is packed in an unknown way: {magic.hex()}"
            )


def _through(command: list[str], payload: bytes) -> bytes:
    # zstd and lz4 complain of the length that follows their stream, after they gave everything.
    return subprocess.run(
        command, input=payload, capture_output=True, timeout=60, check=False
    ).stdout
