"""`python -m deploy.guest`: make the guest's boot files (docs/guest.md). What `make guest` runs."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from deploy.alone import alone
from deploy.guest.boot import firmware, initramfs, kernel, packages

HERE = Path(__file__).parent
PACKAGES = (
    "grub-pc-bin",
    "grub-efi-amd64-bin",
    "e2fsprogs",
    "libext2fs2",
    "libcom-err2",
    "libblkid1",
    "libuuid1",
    "libc6",
)


def build(out: Path, cache: Path | None = None) -> str:
    """Write the boot files to `out`; their version. `cache` (out/.cache) keeps what was fetched.

    A kernel that `make guest-kernel` left in out/small is taken instead of Debian's.
    Raises Missing when this machine lacks something.
    """
    lacking = packages.lacking()
    if lacking:
        raise packages.Missing(f"needs the Debian packages {' '.join(sorted(set(lacking)))}")
    with alone(out / "lock"):
        return _build(out, cache or out / ".cache")


def _build(out: Path, cache: Path) -> str:
    packages.run("make", "-C", HERE, "init", f"OUT={out.resolve()}")
    image = packages.kernel_package()
    tree = packages.unpack([*PACKAGES, image], cache)
    inputs = _inputs(out, tree)
    if (out / "made-from").exists() and (out / "made-from").read_text() == inputs:
        return (out / "version").read_text().strip()
    release = image.removeprefix("linux-image-")
    modules: kernel.Modules | None = None
    if (out / "small/vmlinux").exists():
        vmlinuz = (out / "small/vmlinuz").read_bytes()
        vmlinux = (out / "small/vmlinux").read_bytes()
    else:
        vmlinuz = (tree / f"boot/vmlinuz-{release}").read_bytes()
        vmlinux = kernel.elf_of(vmlinuz)
        modules = kernel.Modules(tree / "lib/modules" / release)
    packed = initramfs.build((out / "init").read_bytes(), tree, modules)
    mbr, core = firmware.bios(tree)
    files = {
        "vmlinuz": vmlinuz,
        "vmlinux": vmlinux,
        "initramfs": packed,
        "mbr.bin": mbr,
        "bios.img": core,
        "esp.img": firmware.esp(tree, vmlinuz, packed),
    }
    whole = hashlib.sha256()
    for name, data in files.items():
        whole.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
        (out / name).write_bytes(data)
    version = whole.hexdigest()[:16]
    (out / "version").write_text(f"{version}\n")
    (out / "made-from").write_text(inputs)
    return version


def _inputs(out: Path, tree: Path) -> str:
    """What tells these boot files from others: our own program, init, a small kernel, the packages."""
    whole = hashlib.sha256((tree.parent / "unpacked").read_bytes())
    ours = [*sorted((HERE / "boot").glob("*.py")), HERE / "__main__.py", out / "init"]
    for path in [*ours, out / "small/vmlinux"]:
        whole.update(path.read_bytes() if path.exists() else b"none")
    return whole.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy.guest", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="the folder to write to")
    options = parser.parse_args()
    try:
        version = build(options.out)
    except packages.Missing as problem:
        print(f"No boot files: {problem}.", file=sys.stderr)
        return 1
    print(f"Boot files {version} in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
