"""The disks of a guest, as the platform makes them: a golden root inside of a GPT disk, config and scratch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.images.disk import BootFiles, disk_size, root_at, write_around

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
    """The root disk, as the product writes it: with the partitions that boot it, or with the last alone."""
    files, size = BootFiles.of(boot) if boot else None, root.stat().st_size
    with to.open("wb") as file:
        file.truncate(disk_size(files, size))
        write_around(file, files, size, bytes(16))
        file.seek(root_at(files))
        file.write(root.read_bytes())
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
