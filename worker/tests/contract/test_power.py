"""Start, stop, move; and what is said when that cannot be."""

import time
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from deploy.lab.testing import RunningLab
from worker.hypervisor.port import (
    BootDirect,
    Busy,
    Gone,
    NoRoom,
    TaskHandle,
    Unreachable,
    VbdSpec,
    VifSpec,
    VmSpec,
)
from worker.tests.contract.conftest import MIB, SOON, Place, Workshop


def test_a_vm_starts_where_it_is_told_to(place: Place, workshop: Workshop) -> None:
    (host,) = place.slaves(1)
    vm = workshop.running(host)
    assert (vm.power_state, vm.resident_on) == ("Running", host)
    assert vm.started_at is not None


def test_a_task_can_be_looked_at_while_it_lasts_and_afterwards(
    place: Place, workshop: Workshop
) -> None:
    (host,) = place.slaves(1)
    task = place.hypervisor.start_on(workshop.vm_with_disk().uuid, host)
    assert place.hypervisor.poll(task).handle == task
    assert place.hypervisor.wait(task, SOON).status == "success"
    with pytest.raises(Gone):
        place.hypervisor.poll(task)


def test_a_live_vm_moves(place: Place, workshop: Workshop) -> None:
    source, target = place.slaves(2)
    vm = workshop.booted(source)
    place.hypervisor.wait(place.hypervisor.pool_migrate(vm.uuid, target), SOON)
    moved = place.hypervisor.vm(vm.uuid)
    assert (moved.power_state, moved.resident_on) == ("Running", target)


def test_a_vm_stops_hard(place: Place, workshop: Workshop) -> None:
    vm = workshop.running(place.master())
    place.hypervisor.wait(place.hypervisor.hard_shutdown(vm.uuid), SOON)
    stopped = place.hypervisor.vm(vm.uuid)
    assert (stopped.power_state, stopped.resident_on) == ("Halted", None)


def test_a_vm_stops_cleanly_once_its_guest_listens(place: Place, workshop: Workshop) -> None:
    vm = workshop.booted(place.master())
    place.hypervisor.wait(place.hypervisor.clean_shutdown(vm.uuid), SOON)
    assert place.hypervisor.vm(vm.uuid).power_state == "Halted"


def test_a_vm_reboots(place: Place, workshop: Workshop) -> None:
    vm = workshop.running(place.master())
    place.hypervisor.wait(place.hypervisor.hard_reboot(vm.uuid), SOON)
    assert place.hypervisor.vm(vm.uuid).power_state == "Running"


def test_a_running_vm_is_destroyed_with_its_power_cut(place: Place, workshop: Workshop) -> None:
    vm = workshop.running(place.master())
    place.hypervisor.destroy_vm(vm.uuid)
    assert place.hypervisor.find_vm(vm.name) is None


# ----------------------------------------------------------------------------------------- what is said


def test_starting_what_runs_is_a_stale_view(place: Place, workshop: Workshop) -> None:
    vm = workshop.running(place.master())
    task = place.hypervisor.start_on(vm.uuid, place.master())
    with pytest.raises(Busy) as error:
        place.hypervisor.wait(task, SOON)
    assert error.value.reason == "power_state"


def test_a_failed_task_is_forgotten_once_it_was_read(place: Place, workshop: Workshop) -> None:
    task = place.hypervisor.hard_shutdown(workshop.vm().uuid)
    with pytest.raises(Busy):
        place.hypervisor.wait(task, SOON)
    with pytest.raises(Gone):
        place.hypervisor.wait(task, SOON)


def test_too_much_memory_is_no_room(place: Place, workshop: Workshop) -> None:
    host = place.hypervisor.host(place.master())
    huge = VmSpec(workshop.name("huge"), workshop.marker, host.memory_total_bytes * 2, 1)
    vm = place.hypervisor.ensure_vm(huge)
    with pytest.raises(NoRoom) as error:
        place.hypervisor.assert_can_boot_here(vm.uuid, host.uuid)
    assert error.value.reason == "memory"
    with pytest.raises(NoRoom):
        place.hypervisor.wait(place.hypervisor.start_on(vm.uuid, host.uuid), SOON)


def test_a_disk_that_the_host_cannot_reach_is_no_room(place: Place, workshop: Workshop) -> None:
    here, there = place.slaves(2)
    local = {pbd.sr for pbd in place.hypervisor.pbds() if pbd.host == here}
    srs = [
        sr.uuid
        for sr in place.hypervisor.srs()
        if sr.uuid in local and not sr.shared and sr.content_type == "user" and sr.type == "ext"
    ]
    if not srs:
        pytest.skip("the host has no local storage")
    vm = workshop.vm_with_disk(sr=srs[0])
    with pytest.raises(NoRoom) as error:
        place.hypervisor.assert_can_boot_here(vm.uuid, there)
    assert error.value.reason == "storage_not_reachable"


@pytest.mark.usefixtures("destructive")
def test_a_disabled_host_takes_nothing(place: Place, workshop: Workshop) -> None:
    (host,) = place.slaves(1)
    vm = workshop.vm_with_disk()
    place.hypervisor.disable_host(host)
    try:
        assert not place.hypervisor.host(host).enabled
        with pytest.raises(NoRoom) as error:
            place.hypervisor.assert_can_boot_here(vm.uuid, host)
        assert error.value.reason == "host_disabled"
    finally:
        place.hypervisor.enable_host(host)
    place.hypervisor.assert_can_boot_here(vm.uuid, host)


def test_a_task_that_is_not_there_is_gone(place: Place) -> None:
    unknown = TaskHandle("00000000-1111-2222-3333-444444444444")
    place.hypervisor.forget(unknown)
    with pytest.raises(Gone):
        place.hypervisor.poll(unknown)


def test_waiting_ends_in_time_and_the_task_goes_on(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    vm = workshop.booted(place.master())
    lab.do(lambda x: x.faults.tell_guest(x.coordinator, str(vm.uuid), "ignore_shutdown"))
    task = place.hypervisor.clean_shutdown(vm.uuid)
    with pytest.raises(Unreachable) as error:
        place.hypervisor.wait(task, timedelta(seconds=0.2))
    assert (error.value.reason, error.value.may_have_happened) == ("task_still_running", True)
    assert not place.hypervisor.poll(task).is_finished


def test_a_guest_that_ignores_being_asked_is_stopped_hard_meanwhile(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    vm = workshop.booted(place.master())
    lab.do(lambda x: x.faults.tell_guest(x.coordinator, str(vm.uuid), "ignore_shutdown"))
    asked = place.hypervisor.clean_shutdown(vm.uuid)
    place.hypervisor.wait(place.hypervisor.hard_shutdown(vm.uuid), SOON)
    assert place.hypervisor.vm(vm.uuid).power_state == "Halted"
    assert place.hypervisor.poll(asked).is_finished


def test_memory_of_the_host_is_given_back(place: Place, workshop: Workshop) -> None:
    host = place.master()
    before = place.hypervisor.free_memory_bytes(host)
    vm = workshop.running(host)
    assert before - place.hypervisor.free_memory_bytes(host) >= 256 * MIB
    place.hypervisor.destroy_vm(vm.uuid)
    assert place.hypervisor.free_memory_bytes(host) == before


# ----------------------------------------------------------------------------------------- warm starts

KERNEL = "/boot/guest/vmlinuz"


def blank_on(workshop: Workshop, host: UUID) -> UUID:
    """A VM without disks, whose guest says that it waits for them, paused."""
    hypervisor = workshop.place.hypervisor
    vm = workshop.vm("blank", boot=BootDirect(KERNEL, args="quiet bulkhead.blank"))
    hypervisor.wait(hypervisor.start_on(vm.uuid, host), SOON)
    deadline = time.monotonic() + SOON.total_seconds()
    while hypervisor.vm(vm.uuid).vm_data.get("blank") != "1":
        assert time.monotonic() < deadline, "the guest never said that it waits"
        time.sleep(0.02)
    hypervisor.pause(vm.uuid)
    return vm.uuid


def test_a_vm_stands_still_and_goes_on(place: Place, workshop: Workshop, lab: RunningLab) -> None:
    vm = blank_on(workshop, place.master())
    assert place.hypervisor.vm(vm).power_state == "Paused"
    with pytest.raises(Busy) as error:
        place.hypervisor.pause(vm)
    assert error.value.reason == "power_state"
    place.hypervisor.unpause(vm)
    assert place.hypervisor.vm(vm).power_state == "Running"
    with pytest.raises(Busy) as error:
        place.hypervisor.unpause(vm)
    assert error.value.reason == "power_state"


def test_a_blank_gets_its_devices_as_it_runs_and_once(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    vm, disk = blank_on(workshop, place.master()), workshop.vdi()
    network = place.hypervisor.networks()[0].uuid
    place.hypervisor.unpause(vm)
    for _ in range(2):
        place.hypervisor.ensure_vif(VifSpec(vm, network, 0, "02:00:5e:00:53:31"), plug=True)
        place.hypervisor.ensure_vbd(VbdSpec(vm, disk.uuid, 0, bootable=True), plug=True)
    (vbd,), (vif,) = place.hypervisor.vbds(vm), place.hypervisor.vifs(vm)
    assert (vbd.vdi, vbd.currently_attached) == (disk.uuid, True)
    assert (vif.network, vif.currently_attached, vif.locking_mode) == (network, True, "locked")


@pytest.mark.parametrize("stands_still", [True, False])
def test_a_vif_of_a_vm_moves_to_another_network_without_being_unplugged(
    place: Place, workshop: Workshop, lab: RunningLab, stands_still: bool
) -> None:
    vm = blank_on(workshop, place.master())
    one, other = (network.uuid for network in place.hypervisor.networks()[:2])
    spec = VifSpec(vm, one, 0, "02:00:5e:00:53:32", locking_mode="disabled")
    place.hypervisor.unpause(vm)
    place.hypervisor.ensure_vif(spec, plug=True)
    if stands_still:
        place.hypervisor.pause(vm)
    for _ in range(2):
        place.hypervisor.ensure_vif(replace(spec, network=other, locking_mode="locked"))
    (vif,) = place.hypervisor.vifs(vm)
    assert (vif.network, vif.currently_attached, vif.locking_mode) == (other, True, "locked")


def test_nothing_is_plugged_into_a_vm_that_stands_still(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    vm, disk = blank_on(workshop, place.master()), workshop.vdi()
    with pytest.raises(Busy) as error:
        place.hypervisor.ensure_vbd(VbdSpec(vm, disk.uuid, 0), plug=True)
    assert error.value.reason == "power_state"


def test_a_vm_that_stands_still_is_destroyed(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    vm = blank_on(workshop, place.master())
    place.hypervisor.destroy_vm(vm)
    assert not [one for one in place.hypervisor.vms() if one.uuid == vm]
