"""What a follower sees of a VM's life, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, vms_of


@pytest.fixture
def vms() -> Iterator[Vms]:
    with (
        running_lab(hosts=2, tls=False, rate=0.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


class Follower:
    """Follows VMs, VBDs and hosts from now on."""

    def __init__(self, vms: Vms) -> None:
        self._from = getattr(vms.api.event, "from")
        self._token = ""
        self.changed()

    def changed(self) -> dict[str, dict[str, Any]]:
        """Object → its record as the latest event shows it."""
        batch = self._from(["VM", "VBD", "host", "VM_guest_metrics"], self._token, 0.0)
        self._token = batch["token"]
        return {
            event["ref"]: event.get("snapshot", {}) | {"operation": event["operation"]}
            for event in batch["events"]
        }


def test_a_start_is_first_promised_then_plugged_then_running(vms: Vms) -> None:
    vm = vms.vm()
    vms.lab.clock.set_rate(20)
    vbd = vms.give_disk(vm, vms.disk(vms.shared_storage()))
    vms.lab.clock.set_rate(0)
    follower = Follower(vms)
    task = vms.session.xenapi_request("Async.VM.start_on", (vm, vms.hosts["h2"], False, False))
    promised = follower.changed()
    assert promised[vm]["current_operations"] == {task: "start_on"}
    assert promised[vm]["scheduled_to_be_resident_on"] == vms.hosts["h2"]
    assert promised[vm]["allowed_operations"] == []
    assert promised[vbd]["current_operations"] == {task: "attach"}
    assert promised[vms.hosts["h2"]]["current_operations"] == {task: "vm_start"}
    vms.lab.clock.advance(0.08)
    plugged = follower.changed()
    assert plugged[vbd]["currently_attached"]
    assert (plugged[vm]["power_state"], plugged[vm]["resident_on"]) == ("Halted", vms.hosts["h2"])
    assert plugged[vm]["scheduled_to_be_resident_on"] == "OpaqueRef:NULL"
    vms.lab.clock.advance(0.2)
    running = follower.changed()
    assert running[vm]["power_state"] == "Running"
    assert running[vm]["current_operations"] == {}
    assert running[vbd]["device"] == "xvda"
    assert running[vbd]["current_operations"] == {}
    assert running[running[vm]["guest_metrics"]]["operation"] == "add"


def test_a_migration_is_promised_to_its_target(vms: Vms) -> None:
    vms.lab.clock.set_rate(20)
    vm = vms.started("h1")
    vms.lab.clock.set_rate(0)
    follower = Follower(vms)
    task = vms.session.xenapi_request("Async.VM.pool_migrate", (vm, vms.hosts["h2"], {}))
    moving = follower.changed()
    assert moving[vm]["current_operations"] == {task: "pool_migrate"}
    assert moving[vm]["scheduled_to_be_resident_on"] == vms.hosts["h2"]
    assert moving[vm]["resident_on"] == vms.hosts["h1"]
    assert "evacuate" not in moving[vms.hosts["h2"]]["allowed_operations"]
    vms.lab.clock.advance(1)
    moved = follower.changed()
    assert moved[vm]["resident_on"] == vms.hosts["h2"]
    assert vm in moved[vms.hosts["h2"]]["resident_VMs"]
    assert vm not in moved[vms.hosts["h1"]]["resident_VMs"]


def test_a_reboot_replaces_the_guest_metrics(vms: Vms) -> None:
    vms.lab.clock.set_rate(20)
    vm = vms.started("h1")
    vms.lab.clock.set_rate(0)
    before = vms.api.VM.get_guest_metrics(vm)
    follower = Follower(vms)
    vms.session.xenapi_request("Async.VM.hard_reboot", (vm,))
    vms.lab.clock.advance(1)
    seen = follower.changed()
    assert seen[before]["operation"] == "del"
    assert seen[seen[vm]["guest_metrics"]]["operation"] == "add"
