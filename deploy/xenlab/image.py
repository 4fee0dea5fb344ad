"""Builds what all hosts of the lab start from, out of Debian's packages.

`xen` (the hypervisor as a multiboot file), `vmlinux` (dom0's kernel), `initramfs`, and `dom0.ext4`, which
QEMU only reads: each host writes to an overlay of its own. The image knows what it was made of (`stamp`)
and is made again when that changes.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy.guest.boot import cpio
from deploy.xenlab import debian
from deploy.xenlab.commands import run
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.modules import copy_modules
from deploy.xenlab.vmlinux import vmlinux_of

HERE = Path(__file__).parent
# `xen-utils` brings xl, xenstored and xenconsoled; libnftables1 is called by the agent.
PACKAGES = ("xen-utils-4.17", "python3", "busybox-static", "libnftables1")
HYPERVISOR = "xen-hypervisor-4.17-amd64"
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
DOM0_MODULES = (
    *("xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd"),
    *("xen-blkback", "xen-netback", "bridge", "8021q", "virtio_net", "nbd"),
    *("nf_tables", "nft_meta_bridge"),
)
# nbds_max: devices for disks that are there from the start; the kernel makes more. max_part: dom0 must not read partition tables that guests wrote.
MODULE_OPTIONS = {"nbd": "nbds_max=64 max_part=0", "xen-blkback": "max_buffer_pages=1024"}
DISK_SIZE = "1G"
# What the agent imports, compiled beforehand: compiling takes an emulated processor seconds.
IMPORTS = "import asyncio, ctypes, fcntl, json, socket, struct, hashlib, uuid, base64, pty, tty, dataclasses"


@dataclass(frozen=True)
class Extra:
    """What dom0 has beside: `files` by path, executable. `/etc/xenlab/also` is started before the agent."""

    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


NOTHING = Extra()


class Image:
    """The files that hosts start from, in one folder."""

    def __init__(self, folder: Path, extra: Extra = NOTHING) -> None:
        self.folder = folder
        self._extra = extra
        self.xen = folder / "xen"
        self.kernel = folder / "vmlinux"
        self.initramfs = folder / "initramfs"
        self.disk = folder / "dom0.ext4"
        self._stamp = folder / "stamp"

    @property
    def stamp(self) -> str:
        """What the image was made of; empty when it is not made."""
        return self._stamp.read_text() if self._stamp.exists() else ""

    def build(self, boot: Path | None = None) -> bool:
        """Makes the image when it is missing or out of date; says whether it did.

        `boot` is a folder of boot files for guests (`vmlinux`, `vmlinuz`, `initramfs`, `version`), which come
        to lie in dom0's /boot/guest.
        """
        kernel_package = debian.newest("linux-image-amd64", r"linux-image-[0-9]\S*-amd64")
        wanted = _mark(kernel_package, boot, self._extra)
        if self.stamp == wanted:
            return False
        self._stamp.unlink(missing_ok=True)
        cache = self.folder.parent / "cache"
        for place in (self.folder, cache):
            place.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2) as pool:
            growing = pool.submit(_base, cache, (*PACKAGES, *self._extra.packages))
            unpacked = debian.unpacked(kernel_package, cache)
            release = kernel_package.removeprefix("linux-image-")
            self.kernel.write_bytes(vmlinux_of((unpacked / f"boot/vmlinuz-{release}").read_bytes()))
            hypervisor = debian.unpacked(HYPERVISOR, cache)
            (packed,) = (hypervisor / "boot").glob("xen-*-amd64.gz")
            self.xen.write_bytes(gzip.decompress(packed.read_bytes()))
            self._make_initramfs(unpacked, release)
            base = growing.result()
        self._make_disk(base, unpacked, release, boot)
        self._stamp.write_text(wanted)
        return True

    def _make_initramfs(self, unpacked: Path, release: str) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            root = Path(place)
            for name in ("bin", "dev", "proc", "root"):
                (root / name).mkdir()
            shutil.copy("/bin/busybox", root / "bin/busybox")
            for applet in ("sh", "mount", "umount", "insmod", "switch_root", "sleep"):
                (root / "bin" / applet).symlink_to("busybox")
            order = copy_modules(unpacked, release, INITRAMFS_MODULES, root)
            (root / "modules").write_text("".join(f"{module}\n" for module in order))
            shutil.copy(HERE / "dom0/initramfs", root / "init")
            (root / "init").chmod(0o755)
            self.initramfs.write_bytes(cpio.archive_of(root))

    def _make_disk(self, base: Path, unpacked: Path, release: str, boot: Path | None) -> None:
        root = self.folder / "root"
        run(["rm", "-rf", root], timeout=60)
        run(["cp", "-a", base, root], timeout=60)
        for name in ("proc", "sys", "run", "root", "boot/guest", "etc/xen", "etc/xenlab"):
            (root / name).mkdir(parents=True, exist_ok=True)
        # `true` is what libxl runs in place of hotplug scripts, see agent/hotplug.py; xl migrates
        # through `sh`.
        for applet in ("true", "sh"):
            (root / "usr/bin" / applet).unlink(missing_ok=True)
            (root / "usr/bin" / applet).symlink_to("busybox")
        # Debian's scripts would have made these.
        for name in ("run", "lock"):
            link = root / "var" / name
            if not link.exists() and not link.is_symlink():
                link.symlink_to("/run" if name == "run" else "/run/lock")
        loaded = copy_modules(unpacked, release, INITRAMFS_MODULES, root)
        order = [
            path
            for path in copy_modules(unpacked, release, (*DOM0_MODULES, *self._extra.modules), root)
            if path not in loaded
        ]
        loads = (f"{path} {MODULE_OPTIONS.get(Path(path).stem, '')}".rstrip() for path in order)
        (root / "etc/xenlab/modules").write_text("".join(f"{load}\n" for load in loads))
        shutil.copy(HERE / "dom0/init", root / "usr/sbin/xenlab-init")
        (root / "usr/sbin/xenlab-init").chmod(0o755)
        shutil.copy(HERE / "dom0/xl.conf", root / "etc/xen/xl.conf")
        for name, text in self._extra.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
            (root / name).chmod(0o755)
        code = root / "usr/lib/bulkhead/deploy/xenlab/agent"
        code.mkdir(parents=True)
        for source in sorted((HERE / "agent").glob("*.py")):
            shutil.copy(source, code / source.name)
        for package in (code.parent, code.parent.parent):
            (package / "__init__.py").touch()
        run(["chroot", root, "python3", "-m", "compileall", "-q", "/usr/lib/bulkhead"], timeout=60)
        if boot is not None:
            for file in sorted(boot.iterdir()):
                if file.name in ("version", "vmlinux", "vmlinuz", "initramfs"):
                    shutil.copy(file, root / "boot/guest" / file.name)
        self.disk.unlink(missing_ok=True)
        run(["truncate", "-s", DISK_SIZE, self.disk], timeout=10)
        run(
            ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", root, self.disk],
            timeout=120,
        )
        run(["rm", "-rf", root], timeout=60)


def _base(cache: Path, packages: tuple[str, ...]) -> Path:
    """dom0's packages, unpacked; kept while their versions stay."""
    mark = hashlib.sha256(repr(debian.versions(packages)).encode()).hexdigest()[:16]
    folder = cache / f"dom0-{mark}"
    if not folder.exists():
        unfinished = cache / f"dom0-{mark}.part"
        debian.tree(packages, unfinished)
        run(["chroot", unfinished, "python3", "-c", IMPORTS], timeout=60)
        unfinished.rename(folder)
    return folder


def _mark(kernel_package: str, boot: Path | None, extra: Extra) -> str:
    wanted = debian.versions((*PACKAGES, *extra.packages, HYPERVISOR, kernel_package))
    parts = [f"{name} {version}" for name, version in wanted.items()]
    own = [
        *HERE.glob("dom0/*"),
        *HERE.glob("agent/*.py"),
        *(HERE / name for name in ("image.py", "modules.py", "vmlinux.py")),
        *(HERE.parent / "guest/boot" / name for name in ("cpio.py", "kernel.py")),
    ]
    if boot is not None:
        if not (boot / "version").is_file():
            raise XenlabError("no_boot_files", f"{boot} has no boot files: no file `version` in it")
        own.append(boot / "version")
    digest = hashlib.sha256(repr(extra).encode() if extra != NOTHING else b"")
    for path in sorted(own):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return "\n".join([*parts, digest.hexdigest(), ""])
