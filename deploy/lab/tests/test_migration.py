"""Moving running VMs between hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.samples import GIB
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture(scope="module")
def _lab() -> Iterator[Vms]:
    with (
        running_lab(hosts=3, tls=False, rate=20.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


@pytest.fixture
def vms(_lab: Vms) -> Iterator[Vms]:
    yield _lab
    _lab.clear()


def test_a_vm_moves_and_goes_on(vms: Vms) -> None:
    vm = vms.started("h1")
    guest, domid = vms.api.VM.get_guest_metrics(vm), vms.api.VM.get_domid(vm)
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {})
    record = vms.api.VM.get_record(vm)
    assert (vms.where(vm), record["power_state"]) == ("h2", "Running")
    assert record["guest_metrics"] == guest
    assert record["scheduled_to_be_resident_on"] == "OpaqueRef:NULL"
    assert vms.api.host.get_current_operations(vms.hosts["h2"]) == {}
    assert domid.isdecimal()


def test_a_vm_may_move_to_its_own_host(vms: Vms) -> None:
    vm = vms.started("h2")
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {})
    assert vms.where(vm) == "h2"


def test_consoles_move_along(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.api.VM.pool_migrate(vm, vms.hosts["h3"], {})
    address = vms.api.host.get_address(vms.hosts["h3"])
    locations = [vms.api.console.get_location(ref) for ref in vms.api.VM.get_consoles(vm)]
    assert locations
    assert all(location.startswith(f"https://{address}") for location in locations)


def test_only_a_running_vm_moves(vms: Vms) -> None:
    vm = vms.vm()
    answer = error_of(vms.api.VM.pool_migrate, vm, vms.hosts["h2"], {})
    assert answer == ["VM_BAD_POWER_STATE", vm, "running", "halted"]


def test_a_full_host_takes_no_vm(vms: Vms) -> None:
    moving, there = vms.started("h1", memory=40 * GIB), vms.started("h2", memory=40 * GIB)
    answer = error_of(vms.api.VM.pool_migrate, moving, vms.hosts["h2"], {})
    assert answer == ["HOST_NOT_ENOUGH_FREE_MEMORY", "43288363008", "22582132736"]
    assert (vms.where(moving), vms.where(there)) == ("h1", "h2")


def test_a_disabled_host_takes_no_vm(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.api.host.disable(vms.hosts["h2"])
    answer = error_of(vms.api.VM.pool_migrate, vm, vms.hosts["h2"], {})
    assert answer == ["HOST_DISABLED", vms.hosts["h2"]]


def test_a_local_disk_does_not_move(vms: Vms) -> None:
    storage = vms.local_storage("h1")
    vm = vms.vm()
    vms.give_disk(vm, vms.disk(storage))
    vms.api.VM.start(vm, False, False)
    answer = error_of(vms.api.VM.pool_migrate, vm, vms.hosts["h2"], {})
    assert answer == ["VM_REQUIRES_SR", vm, storage]


def test_a_network_that_the_target_lacks_is_no_way_to_it(vms: Vms) -> None:
    vm = vms.started("h1")
    missing = "OpaqueRef:00000000-1111-2222-3333-444444444444"
    answer = error_of(vms.api.VM.pool_migrate, vm, vms.hosts["h2"], {"network": missing})
    assert answer == ["PIF_NOT_PRESENT", vms.hosts["h2"], missing]
    assert vms.api.VM.get_current_operations(vm) == {}


def test_a_vm_without_drivers_moves_only_by_force(vms: Vms) -> None:
    vm = vms.started("h1", guest="no-drivers")
    answer = error_of(vms.api.VM.pool_migrate, vm, vms.hosts["h2"], {})
    assert answer == ["VM_LACKS_FEATURE", vm]
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {"force": "true"})
    assert vms.where(vm) == "h2"


def test_a_shared_disk_is_open_on_one_host_at_a_time(vms: Vms) -> None:
    vm = vms.vm()
    disk = vms.disk(vms.shared_storage())
    vms.give_disk(vm, disk)
    vms.api.VM.start_on(vm, vms.hosts["h1"], False, False)
    assert _keys(vms, disk) == {f"host_{vms.hosts['h1']}"}
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {})
    assert _keys(vms, disk) == {f"host_{vms.hosts['h2']}"}
    vms.api.VM.hard_shutdown(vm)
    assert _keys(vms, disk) == set()
    assert vms.lab.do(lambda lab: lab.detector.violations) == []


def _keys(vms: Vms, disk: str) -> set[str]:
    return {key for key in vms.api.VDI.get_sm_config(disk) if key.startswith("host_")}


def test_hard_shutdown_overtakes_a_migration(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.lab.clock.set_rate(0)
    moving = vms.session.xenapi_request("Async.VM.pool_migrate", (vm, vms.hosts["h2"], {}))
    stopping = vms.session.xenapi_request("Async.VM.hard_shutdown", (vm,))
    vms.lab.clock.advance(30)
    vms.lab.clock.set_rate(20)
    assert vms.api.task.get_status(stopping) == "success"
    assert vms.api.task.get_status(moving) == "cancelled"
    assert vms.state(vm) == "Halted"


def test_two_calls_on_one_vm_take_turns(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.lab.clock.set_rate(0)
    moving = vms.session.xenapi_request("Async.VM.pool_migrate", (vm, vms.hosts["h2"], {}))
    sleeping = vms.session.xenapi_request("Async.VM.suspend", (vm,))
    vms.lab.clock.advance(60)
    vms.lab.clock.set_rate(20)
    assert [vms.api.task.get_status(task) for task in (moving, sleeping)] == ["success"] * 2
    assert vms.state(vm) == "Suspended"


def test_a_target_that_dies_leaves_the_vm_where_it_was(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.lab.clock.set_rate(0)
    moving = vms.session.xenapi_request("Async.VM.pool_migrate", (vm, vms.hosts["h3"], {}))
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.clock.advance(5)
    assert vms.api.task.get_error_info(moving)[0] == "VM_MIGRATE_FAILED"
    assert (vms.where(vm), vms.state(vm)) == ("h1", "Running")
    vms.lab.do(lambda lab: lab.machine("h3").power_on())
    vms.lab.clock.advance(60)
    vms.lab.clock.set_rate(20)
