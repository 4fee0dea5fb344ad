"""Takes the ELF kernel out of a bzImage: what gets it has nothing to decompress, slow when emulated."""

from __future__ import annotations

from deploy.guest.boot.kernel import elf_of
from deploy.xenlab.errors import XenlabError


def vmlinux_of(image: bytes) -> bytes:
    """The uncompressed kernel; raises XenlabError `not_a_kernel`."""
    try:
        return elf_of(image)
    except ValueError as refusal:
        raise XenlabError("not_a_kernel", str(refusal)) from refusal
