"""Moving VMs together with their disks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture(scope="module")
def _lab() -> Iterator[Vms]:
    with (
        running_lab(hosts=2, tls=False, rate=20.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


@pytest.fixture
def vms(_lab: Vms) -> Iterator[Vms]:
    yield _lab
    _lab.clear()


def _destination(vms: Vms, host: str) -> dict[str, str]:
    network = next(
        ref
        for ref, record in vms.api.network.get_all_records().items()
        if record["bridge"] == "xenbr0"
    )
    answer: dict[str, str] = vms.api.host.migrate_receive(vms.hosts[host], network, {})
    return answer


def _local_vm(vms: Vms) -> tuple[str, str]:
    """A VM that runs on h1 from a disk on h1's own storage."""
    vm = vms.vm()
    disk = vms.disk(vms.local_storage("h1"))
    vms.give_disk(vm, disk)
    vms.api.VM.start(vm, False, False)
    return vm, disk


def test_a_vm_takes_its_local_disk_along(vms: Vms) -> None:
    vm, disk = _local_vm(vms)
    there = vms.local_storage("h2")
    options: tuple[Any, ...] = (_destination(vms, "h2"), True, {disk: there}, {}, {})
    vms.api.VM.assert_can_migrate(vm, *options)
    assert vms.api.VM.migrate_send(vm, *options) == vm
    moved = vms.api.VBD.get_VDI(vms.api.VM.get_VBDs(vm)[0])
    assert (vms.where(vm), vms.api.VDI.get_SR(moved)) == ("h2", there)
    assert error_of(vms.api.VDI.get_record, disk) == ["HANDLE_INVALID", "VDI", disk]
    assert vms.lab.do(lambda lab: lab.detector.violations) == []


def test_a_disk_that_the_target_cannot_see_needs_a_place_there(vms: Vms) -> None:
    vm, disk = _local_vm(vms)
    answer = error_of(vms.api.VM.migrate_send, vm, _destination(vms, "h2"), True, {}, {}, {})
    assert answer == ["VDI_NOT_IN_MAP", disk]
    assert vms.where(vm) == "h1"


def test_interfaces_are_not_mapped_within_a_pool(vms: Vms) -> None:
    vm = vms.started("h1")
    network = vms.api.network.get_all()[0]
    vif = vms.give_interface(vm, network)
    answer = error_of(
        vms.api.VM.migrate_send, vm, _destination(vms, "h2"), True, {}, {vif: network}, {}
    )
    assert answer[0] in ("OPERATION_NOT_ALLOWED", "VM_REQUIRES_NETWORK")


def test_a_destination_that_is_not_complete_is_not_found(vms: Vms) -> None:
    vm = vms.started("h1")
    answer = error_of(
        vms.api.VM.assert_can_migrate, vm, {"host": vms.hosts["h2"]}, True, {}, {}, {}
    )
    assert answer == ["INTERNAL_ERROR", "Not_found"]


def test_a_halted_vm_moves_only_its_disks(vms: Vms) -> None:
    vm, disk = _local_vm(vms)
    vms.api.VM.hard_shutdown(vm)
    there = vms.shared_storage()
    vms.api.VM.migrate_send(vm, _destination(vms, "h2"), False, {disk: there}, {}, {})
    moved = vms.api.VBD.get_VDI(vms.api.VM.get_VBDs(vm)[0])
    assert (vms.state(vm), vms.api.VDI.get_SR(moved)) == ("Halted", there)


def test_three_vms_at_most_move_their_disks_at_once(vms: Vms) -> None:
    running = [_local_vm(vms) for _ in range(4)]
    there = vms.local_storage("h2")
    destination = _destination(vms, "h2")
    vms.lab.clock.set_rate(0.2)
    tasks = [
        vms.session.xenapi_request(
            "Async.VM.migrate_send", (vm, destination, True, {disk: there}, {}, {})
        )
        for vm, disk in running
    ]
    vms.lab.clock.set_rate(0)
    vms.lab.clock.advance(30)
    vms.lab.clock.set_rate(20)
    outcomes = [vms.api.task.get_record(task) for task in tasks]
    assert [task["status"] for task in outcomes] == ["success"] * 3 + ["failure"]
    assert outcomes[3]["error_info"] == ["TOO_MANY_STORAGE_MIGRATES", "3"]


@pytest.mark.parametrize("running", [True, False])
def test_one_disk_of_a_vm_moves_while_the_vm_stays(vms: Vms, running: bool) -> None:
    vm, disk = _local_vm(vms)
    if not running:
        vms.api.VM.hard_shutdown(vm)
    there = vms.shared_storage()
    moved = vms.api.VDI.pool_migrate(disk, there, {})
    assert vms.api.VDI.get_SR(moved) == there
    assert vms.api.VBD.get_VDI(vms.api.VM.get_VBDs(vm)[0]) == moved
    assert (vms.state(vm), vms.where(vm)) == (("Running", "h1") if running else ("Halted", ""))
    assert error_of(vms.api.VDI.get_record, disk) == ["HANDLE_INVALID", "VDI", disk]
    assert vms.lab.do(lambda lab: lab.detector.violations) == []


def test_a_disk_moves_only_with_a_vm_and_where_its_host_can_see_it(vms: Vms) -> None:
    alone = vms.disk(vms.shared_storage())
    answer = error_of(vms.api.VDI.pool_migrate, alone, vms.local_storage("h1"), {})
    assert answer == ["VDI_NEEDS_VM_FOR_MIGRATE", alone]
    _, disk = _local_vm(vms)
    elsewhere = vms.local_storage("h2")
    answer = error_of(vms.api.VDI.pool_migrate, disk, elsewhere, {})
    assert answer == ["SR_HAS_NO_PBDS", elsewhere]
