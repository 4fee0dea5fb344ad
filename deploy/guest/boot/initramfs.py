"""The initramfs: init, the modules, and mke2fs with its libraries; the same bytes from the same files."""

from __future__ import annotations

import re
from pathlib import Path

import zstandard

from deploy.guest.boot.cpio import Archive
from deploy.guest.boot.kernel import MODULES, Modules
from deploy.guest.boot.packages import Missing, run

# mke2fs asks for a profile by the size of the disk too; ours are the same, with inodes for many small files.
_PROFILE = b"\t%s = {\n\t\tblocksize = 4096\n\t\tinode_size = 256\n\t\tinode_ratio = 8192\n\t}\n"
MKE2FS_CONF = (
    b"[defaults]\n\tbase_features = sparse_super,large_file,filetype,dir_index,ext_attr\n[fs_types]\n"
    b"\text4 = {\n\t\tfeatures = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,"
    b"extra_isize\n\t}\n"
    + b"".join(_PROFILE % size for size in (b"floppy", b"small", b"default", b"big", b"huge"))
)
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64")


def _library(tree: Path, name: str) -> Path:
    for folder in LIBRARIES:
        if (tree / folder / name).exists():
            return (tree / folder / name).resolve()
    raise Missing(f"no package brought {name}")


def libraries_of(tree: Path, program: Path) -> dict[str, Path]:
    """What this program is linked with, all the way down: name → file."""
    found: dict[str, Path] = {}
    todo = [program]
    while todo:
        words = run("readelf", "--dynamic", "--wide", todo.pop())
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", words):
            if name not in found and not name.startswith("ld-linux"):
                found[name] = _library(tree, name)
                todo.append(found[name])
    return dict(sorted(found.items()))


def add_modules(archive: Archive, modules: Modules) -> None:
    """/modules: the files, and for each purpose a list in the order of loading."""
    for purpose, names in MODULES.items():
        files = list(modules.with_needs(names))
        archive.file(
            f"modules/{purpose}.list", "".join(f"{file.name}\n" for file in files).encode()
        )
        for file in files:
            if f"modules/{file.name}" not in archive.names:
                archive.file(f"modules/{file.name}", file.read_bytes())


def add_mke2fs(archive: Archive, tree: Path) -> None:
    program = tree / "sbin/mke2fs"
    archive.file("sbin/mke2fs", program.read_bytes(), 0o755)
    archive.file("etc/mke2fs.conf", MKE2FS_CONF)
    loader = "ld-linux-x86-64.so.2"
    archive.file(f"lib64/{loader}", _library(tree, loader).read_bytes(), 0o755)
    for name, file in libraries_of(tree, program).items():
        archive.file(f"lib/x86_64-linux-gnu/{name}", file.read_bytes(), 0o755)


def build(init: bytes, tree: Path, modules: Modules | None) -> bytes:
    """The initramfs, packed; `modules` is None for a kernel that has all built in."""
    archive = Archive()
    for folder in ("dev", "proc", "sys", "run"):
        archive.folder(folder)
    archive.file("init", init, 0o755)
    # The kernel calls these when Xen asks for an end.
    archive.link("sbin/poweroff", "/init")
    archive.link("sbin/reboot", "/init")
    if modules is not None:
        add_modules(archive, modules)
    add_mke2fs(archive, tree)
    return zstandard.ZstdCompressor(level=12).compress(archive.close())
