"""A guest comes up to its container's first HTTP answer, however it is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.guest.tests.conftest import NETWORK, Disks
from deploy.guest.tests.machine import Machine

SERVER = {
    "hostname": "web",
    "argv": ["httpd", "-f", "-p", "8080", "-h", "/www"],
    "network": NETWORK,
}
OVMF = Path("/usr/share/ovmf/OVMF.fd")
Furnish = Callable[..., Disks]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["erofs", "squashfs"])
def test_its_kernel_is_started_directly(furnish: Furnish, boot_files: Path, kind: str) -> None:
    with Machine(furnish(SERVER, kind=kind), boot=boot_files) as machine:
        assert machine.ask_http().endswith("served\n")


@pytest.mark.slow
def test_its_disk_boots_under_a_bios(furnish: Furnish) -> None:
    with Machine(furnish(SERVER, boots=True)) as machine:
        assert machine.ask_http().endswith("served\n")


@pytest.mark.slow
def test_its_disk_boots_under_uefi(furnish: Furnish) -> None:
    if not OVMF.exists():
        pytest.skip("needs the Debian package ovmf")
    # Firmware unpacks itself and draws its menu first: more memory, more time.
    disks = furnish(SERVER, boots=True)
    with Machine(disks, firmware=["-bios", str(OVMF)], memory=256) as machine:
        assert machine.ask_http().endswith("served\n")
