"""A guest comes up to its container's first HTTP answer, however it is started."""

from __future__ import annotations

import os
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
# Of itself a shell reads a kilobyte or so. It ends when all that is to be read ahead was read, or after ten seconds.
LARGE = r"""#!/bin/sh
read_so_far() { set -- $(cat /sys/block/vda/stat); echo $(($3 / 2)); }
for look in $(seq 100); do
    test $(read_so_far) -ge 4096 && break
    usleep 100000
done
sleep 0.5
echo "kilobytes=$(read_so_far)"
exit 0
"""
# The kernel begins to write a file system's inode tables within five seconds, if it does.
IDLE = r"""
for look in $(seq 70); do usleep 100000; done
set -- $(cat /sys/block/vdc/stat)
echo "kilobytes=$(($7 / 2))"
"""
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


@pytest.mark.slow
def test_the_first_of_its_program_is_read_before_it_asks_for_it(
    furnish: Furnish, boot_files: Path
) -> None:
    files = {"bin/large": LARGE.encode() + os.urandom(16 << 20)}
    disks = furnish({"hostname": "web", "argv": ["large"]}, files)
    with Machine(disks, boot=boot_files) as machine:
        machine.until(lambda: "kilobytes=" in machine.written("o"), "it did not look")
        assert 4 << 10 <= _kilobytes(machine) < 8 << 10


@pytest.mark.slow
def test_a_container_that_writes_nothing_leaves_its_scratch_disk_thin(
    furnish: Furnish, boot_files: Path
) -> None:
    disks = furnish({"hostname": "web", "argv": ["sh", "-c", IDLE]})
    with Machine(disks, boot=boot_files) as machine:
        machine.until(lambda: "kilobytes=" in machine.written("o"), "it did not look")
        assert _kilobytes(machine) < 1 << 10


def _kilobytes(machine: Machine) -> int:
    return int(machine.written("o").partition("kilobytes=")[2].split()[0])
