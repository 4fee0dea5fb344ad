"""The disks of a guest, as the platform makes them: a golden root inside of a GPT disk, config and scratch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECTOR = 512
MIB = 2**20
BUSYBOX = Path("/bin/busybox")
PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nweb:x:1001:1002:Web:/home/web:/bin/sh\nlone:x:1003:1003::/:\n"
)
GROUP = "root:x:0:\nweb:x:1002:\nstaff:x:50:web\nmedia:x:2000:other,web\n"


def command(*argv: str | Path) -> None:
    """Run it, or say what it said."""
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]}: {done.stdout}{done.stderr}")


def tree(
    folder: Path, files: Mapping[str, str | bytes] = {}, links: Mapping[str, str] = {}
) -> Path:
    """An image's root: busybox with its commands, users, and these files (those in bin/ are programs).

    A link takes the place of the folder of its name.
    """
    for name in ("bin", "etc", "root", "home/web", "tmp", "www"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    listed = subprocess.run(
        [BUSYBOX, "--list"], capture_output=True, text=True, timeout=10, check=True
    )
    for name in listed.stdout.split():
        link = folder / "bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    content: dict[str, str | bytes] = {
        "etc/passwd": PASSWD,
        "etc/group": GROUP,
        "www/index.html": "served\n",
        **files,
    }
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    (folder / "tmp").chmod(0o1777)
    for name, target in links.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).symlink_to(target)
    return folder


def golden(folder: Path, image: Path, kind: str) -> Path:
    """A read-only file system of this folder, "erofs" or "squashfs", all of it root's."""
    image.unlink(missing_ok=True)
    if kind == "erofs":
        command("mkfs.erofs", "--quiet", "--all-root", "-T0", "-zlz4hc", image, folder)
    else:
        command("mksquashfs", folder, image, "-all-root", "-quiet", "-no-progress", "-comp", "zstd")
    return image


def disk(root: Path, to: Path, boot: Path | None) -> Path:
    """The root disk: with the partitions that boot it, or with its third alone."""
    esp = (boot / "esp.img").stat().st_size if boot else 0
    start = 4096 * SECTOR + esp if boot else MIB
    size = root.stat().st_size
    end = start + size
    whole = end + MIB
    whole += -whole % (2 * MIB)
    with to.open("wb") as file:
        file.truncate(whole)
    layout = [
        f"--new=3:{start // SECTOR}:{-(-end // SECTOR) - 1}",
        "--change-name=3:bulkhead-root",
    ]
    if boot:
        layout += ["--new=1:2048:4095", "--typecode=1:ef02", "--change-name=1:bulkhead-bios"]
        layout += [f"--new=2:4096:{4095 + esp // SECTOR}", "--typecode=2:ef00"]
        layout += ["--change-name=2:bulkhead-esp"]
    command("sgdisk", "--set-alignment=1", *layout, to)
    with to.open("r+b") as file:
        pieces = [(start, root)]
        if boot:
            pieces += [(0, boot / "mbr.bin"), (2048 * SECTOR, boot / "bios.img")]
            pieces += [(4096 * SECTOR, boot / "esp.img")]
        for at, piece in pieces:
            file.seek(at)
            file.write(piece.read_bytes())
    return to


def config(spec: Mapping[str, Any] | bytes, to: Path) -> Path:
    """The config disk: JSON, then zeros."""
    data = spec if isinstance(spec, bytes) else json.dumps({"version": 1, **spec}).encode()
    to.write_bytes(data + bytes(2 * MIB - len(data)))
    return to


def blank(to: Path, size: int = 48 * MIB) -> Path:
    with to.open("wb") as file:
        os.truncate(file.fileno(), size)
    return to
