"""A guest that is booted before it is known what it shall run: it waits for its disks."""

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
Furnish = Callable[..., Disks]


def wait_until_blank(machine: Machine) -> None:
    machine.until(lambda: "blank: waiting" in machine.written("n"), "it does not wait")


@pytest.mark.slow
def test_it_goes_on_once_its_disks_and_network_card_are_plugged(
    furnish: Furnish, boot_files: Path
) -> None:
    with Machine(furnish(SERVER), boot=boot_files, blank=True) as machine:
        wait_until_blank(machine)
        machine.plug()
        assert machine.ask_http().endswith("served\n")


@pytest.mark.slow
def test_it_ends_cleanly_when_asked_before_it_has_a_disk(
    furnish: Furnish, boot_files: Path
) -> None:
    with Machine(furnish(SERVER), boot=boot_files, blank=True) as machine:
        wait_until_blank(machine)
        machine.press_control_alt_delete()
        machine.until(lambda: not machine.is_on, "it does not end")
        assert "asked to end before there was a root disk" in machine.written("n")
