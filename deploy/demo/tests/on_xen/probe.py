"""Images that tell what they find inside: busybox of Debian's, `probe/` above it, in several configurations.

Made by `umoci`, as people make theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from deploy.lab.registry.debian_images import TAG, make

FILES = Path(__file__).parent / "probe"
SOURCE = Path(__file__).parent / "effective.c"
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
# Tag → options of `umoci config`. What they mean is said by image-spec/config.md.
CONFIGURATIONS = {
    "server": ("--config.entrypoint", "/bin/probe", "--config.cmd", "serve"),
    "report": (
        *("--config.user", "app", "--config.workingdir", "/srv/work/new"),
        *("--config.env", "COLOR=red", "--config.env", "EMPTY=", "--config.env", "SIGN=a=b c"),
        *("--config.entrypoint", "/bin/probe", "--config.entrypoint", "report"),
        *("--config.cmd", "from the image", "--config.cmd", "$HOME"),
    ),
    "signal": ("--config.entrypoint", "/bin/probe", "--config.stopsignal", "SIGUSR1"),
    "numbers": (
        "--config.user",
        "1000:2000",
        "--config.cmd",
        "/bin/probe",
        "--config.cmd",
        "report",
    ),
    "relative": ("--config.cmd", "probe", "--config.cmd", "report"),
    "stranger": ("--config.user", "nobody-knows", "--config.cmd", "/bin/probe"),
    "bare": (),
}
_SECONDS = 60


def make_probe(folder: Path) -> Path:
    """The OCI layout with an image of each configuration, its tag. Only root unpacks owners as they are."""
    layout = folder / "probe"
    shutil.copytree(make("busybox"), layout)
    bundle = folder / "bundle"
    image = f"{layout}:{TAG}"
    _umoci("unpack", "--image", image, str(bundle))
    root = bundle / "rootfs"
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    for path in root.joinpath("srv").rglob("*"):
        os.chown(path, 0, 0)
    (root / "srv/of-root").write_text("nobody else's")
    (root / "srv/of-root").chmod(0o640)
    # busybox gives up what setuid gave it; this program does not.
    effective = root / "srv/effective"
    subprocess.run(("musl-gcc", "-static", "-o", effective, SOURCE), check=True, timeout=_SECONDS)
    effective.chmod(0o4755)
    _umoci("repack", "--image", image, str(bundle))
    for tag, options in CONFIGURATIONS.items():
        fresh = ("--clear=config.cmd", "--clear=config.entrypoint", "--config.env", PATH)
        _umoci("config", "--image", image, "--tag", tag, *fresh, *options)
    return layout


def make_python(folder: Path) -> Path:
    """The OCI layout of Debian's Python, run by root: tag "root"."""
    layout = folder / "python"
    shutil.copytree(make("python"), layout)
    _umoci("config", "--image", f"{layout}:{TAG}", "--tag", "root", "--config.user", "0:0")
    return layout


def _umoci(*arguments: str) -> None:
    subprocess.run(("umoci", *arguments), check=True, capture_output=True, timeout=_SECONDS)
