from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from deploy.guest.boot import cpio
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.vmlinux import vmlinux_of

ELF = b"\x7fELF" + bytes(range(256)) * 8


def bzimage(payload: bytes) -> bytes:
    """A kernel image of one setup sector and a packed kernel 64 bytes after it."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    return bytes(head) + b"\0" * 64 + payload + b"\0" * 100


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_the_kernel_comes_out_of_its_image(pack: object) -> None:
    assert callable(pack)
    assert vmlinux_of(bzimage(pack(ELF) + struct.pack("<I", len(ELF)))) == ELF


def test_what_is_no_kernel_is_refused() -> None:
    for image in (b"\0" * 2048, bzimage(b"plain bytes"), bzimage(gzip.compress(b"no ELF"))):
        with pytest.raises(XenlabError) as refused:
            vmlinux_of(image)
        assert refused.value.code == "not_a_kernel"


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_unpacks_an_initramfs(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "bin").mkdir(parents=True)
    target.mkdir()
    (source / "bin/tool").write_bytes(b"#!/bin/sh\n")
    (source / "bin/tool").chmod(0o755)
    (source / "bin/sh").symlink_to("tool")
    archive = cpio.archive_of(source)
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=target, timeout=20, check=True)
    assert (target / "bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert (target / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert str((target / "bin/sh").readlink()) == "tool"


def test_an_archive_ends_as_the_kernel_expects(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    archive = cpio.archive_of(tmp_path)
    assert archive.startswith(b"070701")
    assert b"12345\0\0\0" + b"070701" in archive
    assert archive.endswith(b"TRAILER!!!\0\0\0\0")
    assert len(archive) % 4 == 0
