"""Boot files and guests for the tests; what a machine lacks is named in the skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.guest.__main__ import HERE, build
from deploy.guest.boot import packages
from deploy.guest.tests import disks

NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.erofs": "erofs-utils",
    "mksquashfs": "squashfs-tools",
    "busybox": "busybox-static",
}
NETWORK = [
    {
        "device": 0,
        "mac": "02:00:00:00:00:07",
        "addresses": ["10.0.2.15/24", "fd00::15/64"],
        "gateway4": "10.0.2.2",
        "gateway6": "fd00::2",
    }
]


@pytest.fixture(scope="session")
def boot_files() -> Path:
    """GUEST_BOOT, or made now."""
    if "GUEST_BOOT" in os.environ:
        return Path(os.environ["GUEST_BOOT"])
    try:
        build(HERE / "out")
    except packages.Missing as problem:
        pytest.skip(f"no boot files: {problem}")
    return HERE / "out"


@pytest.fixture(scope="session")
def emulator() -> None:
    """What it takes to run a guest here."""
    missing = [package for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs the Debian packages {' '.join(missing)}")


Disks = list[tuple[Path, bool]]


@pytest.fixture
def furnish(emulator: None, boot_files: Path, tmp_path: Path) -> Callable[..., Disks]:
    """A guest's three disks, in the order of their numbers; True: read-only."""

    def make(
        spec: Mapping[str, Any] | bytes,
        files: Mapping[str, str | bytes] = {},
        kind: str = "erofs",
        boots: bool = False,
        links: Mapping[str, str] = {},
    ) -> Disks:
        root = disks.golden(disks.tree(tmp_path / "tree", files, links), tmp_path / "golden", kind)
        return [
            (disks.disk(root, tmp_path / "root", boot_files if boots else None), True),
            (disks.config(spec, tmp_path / "config"), True),
            (disks.blank(tmp_path / "scratch"), False),
        ]

    return make
