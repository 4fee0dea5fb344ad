"""What happens at the worst moment: no VM runs twice, and the database says where each runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import XenAPI

from deploy.lab.lab import Lab
from deploy.lab.storage import StorageTimes
from deploy.lab.testing import running_lab
from deploy.lab.tests.soak import inconsistencies
from deploy.lab.tests.vms import Vms, vms_of
from deploy.lab.xenopsd import Durations

DURATIONS = Durations(start=10.0, stop=1.0, migrate=10.0, resume=10.0, suspend=10.0)
TIMES = StorageTimes(attach=5.0, destroy=15.0)


@pytest.fixture
def vms() -> Iterator[Vms]:
    """A pool whose work takes its time, with the clock standing still."""
    with (
        running_lab(
            hosts=4,
            tls=False,
            rate=0.0,
            guest_boot_seconds=0.0,
            durations=DURATIONS,
            storage=TIMES,
        ) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


def asked(vms: Vms, method: str, *arguments: object) -> str:
    """Start a call; answers its task."""
    task: str = vms.session.xenapi_request(f"Async.{method}", arguments)
    vms.lab.clock.advance(0)
    return task


def outcome(vms: Vms, task: str) -> str:
    """`success`, or the error's code."""
    record = vms.api.task.get_record(task)
    assert record["status"] != "pending"
    return str(record["error_info"][0] if record["error_info"] else record["status"])


def after(vms: Vms, seconds: float) -> None:
    vms.lab.clock.advance(seconds)


def finished(vms: Vms, method: str, *arguments: object) -> None:
    task = asked(vms, method, *arguments)
    after(vms, 60)
    assert outcome(vms, task) == "success"


def running(vms: Vms, host: str, *, disks: int = 0, **fields: object) -> str:
    vm = vms.vm(**fields)  # type: ignore[arg-type]
    for number in range(disks):
        vms.lab.clock.set_rate(200)
        vms.give_disk(vm, vms.disk(vms.shared_storage()), userdevice=str(number))
        vms.lab.clock.set_rate(0)
    finished(vms, "VM.start_on", vm, vms.hosts[host], False, False)
    return vm


def on_the_lab(vms: Vms, action: Callable[[Lab], object]) -> None:
    vms.lab.do(action)
    vms.lab.clock.advance(0)


def settled(vms: Vms) -> None:
    """Nothing is under way any more, and nothing is wrong."""
    after(vms, 600)
    assert vms.lab.do(inconsistencies) == []


def machines_running(vms: Vms, vm: str) -> list[str]:
    uuid = vms.api.VM.get_uuid(vm)
    return vms.lab.do(
        lambda lab: [machine.name for machine in lab.machines.values() if uuid in machine.domains]
    )


def open_on(vms: Vms, vm: str) -> set[str]:
    """The machines on which the VM has disks open."""
    uuid = vms.api.VM.get_uuid(vm)
    return vms.lab.do(lambda lab: {machine.name for machine, _ in lab.storage.attachments.of(uuid)})


# --- going back to a snapshot


def test_a_start_waits_until_a_running_vm_has_been_reverted(vms: Vms) -> None:
    vm = running(vms, "h2")
    finished(vms, "VM.snapshot", vm, "before")
    (snapshot,) = vms.api.VM.get_snapshots(vm)
    # Its disks take a while, in which the VM is halted already.
    revert = asked(vms, "VM.revert", snapshot)
    after(vms, 0.5)
    start = asked(vms, "VM.start_on", vm, vms.hosts["h3"], False, False)
    after(vms, 120)
    assert outcome(vms, revert) == "success"
    assert outcome(vms, start) == "VM_BAD_POWER_STATE"
    settled(vms)


def test_a_start_that_waited_for_the_shutdown_does_not_come_before_the_revert(vms: Vms) -> None:
    vm = running(vms, "h2")
    finished(vms, "VM.snapshot", vm, "before")
    (snapshot,) = vms.api.VM.get_snapshots(vm)
    # The pause keeps the VM busy while start and revert line up behind it.
    shutdown = asked(vms, "VM.hard_shutdown", vm)
    revert = asked(vms, "VM.revert", snapshot)
    after(vms, 3)
    start = asked(vms, "VM.start_on", vm, vms.hosts["h3"], False, False)
    after(vms, 120)
    assert outcome(vms, shutdown) == outcome(vms, revert) == outcome(vms, start) == "success"
    assert machines_running(vms, vm) == ["h3"]
    settled(vms)


def test_two_vms_that_share_a_disk_are_reverted_at_once(vms: Vms) -> None:
    vms.lab.clock.set_rate(200)
    disk = vms.disk(vms.shared_storage())
    pair = [vms.vm(), vms.vm()]
    for vm in pair:
        vms.give_disk(vm, disk)
    vms.lab.clock.set_rate(0)
    for vm in pair:
        finished(vms, "VM.snapshot", vm, "before")
    snapshots = [vms.api.VM.get_snapshots(vm)[0] for vm in pair]
    first = asked(vms, "VM.revert", snapshots[0])
    after(vms, 15.02)  # the disk is destroyed, and what replaces it is being made
    second = asked(vms, "VM.revert", snapshots[1])
    after(vms, 60)
    assert outcome(vms, first) == outcome(vms, second) == "success"
    settled(vms)


# --- suspending and resuming


def test_a_hard_shutdown_stops_a_vm_that_was_resumed_while_its_image_was_destroyed(
    vms: Vms,
) -> None:
    vm = running(vms, "h2")
    finished(vms, "VM.suspend", vm)
    resume = asked(vms, "VM.resume_on", vm, vms.hosts["h3"], False, False)
    shutdown = asked(vms, "VM.hard_shutdown", vm)
    after(vms, 120)
    assert outcome(vms, resume) == outcome(vms, shutdown) == "success"
    assert (vms.state(vm), machines_running(vms, vm)) == ("Halted", [])
    settled(vms)


def test_a_vm_that_was_shut_down_while_it_was_being_resumed_stays_halted(vms: Vms) -> None:
    vm = running(vms, "h2")
    finished(vms, "VM.suspend", vm)
    resume = asked(vms, "VM.resume_on", vm, vms.hosts["h3"], False, False)
    # Nothing of an image to destroy: the shutdown is done at once.
    vms.api.VDI.forget(vms.api.VM.get_suspend_VDI(vm))
    shutdown = asked(vms, "VM.hard_shutdown", vm)
    after(vms, 120)
    assert outcome(vms, shutdown) == "success"
    assert outcome(vms, resume) == "VM_BAD_POWER_STATE"
    assert (vms.state(vm), machines_running(vms, vm)) == ("Halted", [])
    settled(vms)


def test_a_vm_that_powered_off_before_it_could_be_suspended_is_halted(vms: Vms) -> None:
    vm = running(vms, "h2")
    uuid = vms.api.VM.get_uuid(vm)
    suspend = asked(vms, "VM.suspend", vm)
    on_the_lab(vms, lambda lab: lab.faults.tell_guest(lab.machine("h2"), uuid, "exit"))
    after(vms, 60)
    assert outcome(vms, suspend) == "VM_BAD_POWER_STATE"
    assert vms.state(vm) == "Halted"
    settled(vms)


def test_a_guest_does_not_outlive_its_destroyed_suspended_vm(vms: Vms) -> None:
    vm = running(vms, "h2")
    finished(vms, "VM.checkpoint", vm, "asleep")
    (snapshot,) = vms.api.VM.get_snapshots(vm)
    finished(vms, "VM.suspend", vm)
    finished(vms, "VM.destroy", vm)
    # The VM comes back under its old uuid, with a record of its own.
    finished(vms, "VM.revert", snapshot)
    again = vms.api.VM.get_snapshot_of(snapshot)
    finished(vms, "VM.resume_on", again, vms.hosts["h3"], False, False)
    uuid = vms.api.VM.get_uuid(again)
    on_the_lab(vms, lambda lab: lab.faults.tell_guest(lab.machine("h3"), uuid, "exit"))
    settled(vms)
    assert vms.state(again) == "Halted"


def test_a_vm_that_cannot_wake_from_its_checkpoint_is_suspended_and_nowhere(vms: Vms) -> None:
    vm = running(vms, "h2")
    checkpoint = asked(vms, "VM.checkpoint", vm, "asleep")
    after(vms, 15)  # it is being woken
    assert vms.state(vm) == "Suspended"
    on_the_lab(vms, lambda lab: lab.machine("h2").power_off())
    after(vms, 200)
    assert outcome(vms, checkpoint) == "CANNOT_CONTACT_HOST"
    assert (vms.state(vm), vms.where(vm)) == ("Suspended", "")
    finished(vms, "VM.resume_on", vm, vms.hosts["h3"], False, False)
    settled(vms)


def test_a_vm_shut_down_while_it_is_checkpointed_is_not_woken(vms: Vms) -> None:
    vm = running(vms, "h2")
    checkpoint = asked(vms, "VM.checkpoint", vm, "asleep")
    after(vms, 15)
    shutdown = asked(vms, "VM.hard_shutdown", vm)
    after(vms, 200)
    assert outcome(vms, shutdown) == "success"
    assert outcome(vms, checkpoint) in ("success", "VM_BAD_POWER_STATE")
    assert (vms.state(vm), machines_running(vms, vm)) == ("Halted", [])
    settled(vms)


# --- hosts that go down over it


@pytest.mark.parametrize("seconds", [1, 6, 11, 14])
def test_a_vm_whose_start_died_with_the_toolstack_can_be_started_elsewhere(
    vms: Vms, seconds: int
) -> None:
    vm = vms.vm()
    start = asked(vms, "VM.start_on", vm, vms.hosts["h2"], False, False)
    after(vms, seconds)
    on_the_lab(vms, lambda lab: lab.machine("h2").restart_toolstack())
    after(vms, 150)
    if outcome(vms, start) != "success":
        assert outcome(vms, start) == "CANNOT_CONTACT_HOST"
        assert (vms.state(vm), machines_running(vms, vm)) == ("Halted", [])
        finished(vms, "VM.start_on", vm, vms.hosts["h3"], False, False)
    settled(vms)


def test_a_reboot_that_died_with_the_toolstack_leaves_the_vm_halted(vms: Vms) -> None:
    vm = running(vms, "h2")
    reboot = asked(vms, "VM.hard_reboot", vm)
    after(vms, 2)
    on_the_lab(vms, lambda lab: lab.machine("h2").restart_toolstack())
    after(vms, 150)
    assert outcome(vms, reboot) == "CANNOT_CONTACT_HOST"
    assert (vms.state(vm), machines_running(vms, vm)) == ("Halted", [])
    finished(vms, "VM.start_on", vm, vms.hosts["h3"], False, False)
    settled(vms)


def test_a_vm_that_reboots_itself_is_not_taken_for_halted_meanwhile(vms: Vms) -> None:
    vm = running(vms, "h2", disks=1)
    after(vms, 200)  # an older guest reboots without delay
    uuid = vms.api.VM.get_uuid(vm)
    on_the_lab(vms, lambda lab: lab.faults.tell_guest(lab.machine("h2"), uuid, "reboot"))
    after(vms, 12)  # its disks are being opened
    on_the_lab(vms, lambda lab: lab.power.resync(lab.machine("h2")))
    assert (vms.state(vm), vms.where(vm)) == ("Running", "h2")
    settled(vms)
    assert machines_running(vms, vm) == ["h2"]


def test_a_reboot_that_cannot_open_a_disk_leaves_the_vm_halted(vms: Vms) -> None:
    vm = running(vms, "h2", disks=1)
    (vbd,) = vms.api.VM.get_VBDs(vm)
    disk = vms.api.VBD.get_VDI(vbd)
    reboot = asked(vms, "VM.hard_reboot", vm)
    after(vms, 2)
    vms.api.VDI.add_to_sm_config(disk, "activating", "True")
    after(vms, 120)
    assert outcome(vms, reboot) == "SR_BACKEND_FAILURE_46"
    assert (vms.state(vm), machines_running(vms, vm), open_on(vms, vm)) == ("Halted", [], set())
    settled(vms)


def test_a_source_that_dies_while_the_disks_are_handed_over_leaves_none_open(vms: Vms) -> None:
    vm = running(vms, "h2", disks=2)
    move = asked(vms, "VM.pool_migrate", vm, vms.hosts["h3"], {})
    after(vms, 13)  # the first disk is being opened at the target
    on_the_lab(vms, lambda lab: lab.machine("h2").power_off())
    after(vms, 60)
    assert outcome(vms, move) == "VM_HALTED"
    assert (machines_running(vms, vm), open_on(vms, vm)) == ([], set())
    on_the_lab(vms, lambda lab: lab.machine("h2").power_on())
    settled(vms)
    finished(vms, "VM.start_on", vm, vms.hosts["h4"], False, False)


@pytest.mark.parametrize("seconds", [3, 9])
def test_a_target_that_dies_on_the_way_leaves_the_vm_where_it_was(vms: Vms, seconds: int) -> None:
    vm = running(vms, "h2", disks=2)
    move = asked(vms, "VM.pool_migrate", vm, vms.hosts["h3"], {})
    after(vms, seconds)
    on_the_lab(vms, lambda lab: lab.machine("h3").power_off())
    after(vms, 60)
    assert outcome(vms, move) == "VM_MIGRATE_FAILED"
    assert (vms.state(vm), vms.where(vm)) == ("Running", "h2")
    assert (machines_running(vms, vm), open_on(vms, vm)) == (["h2"], {"h2"})
    settled(vms)


@pytest.mark.parametrize("seconds", [13, 18])
def test_a_vm_whose_disks_a_dying_target_keeps_is_shut_down(vms: Vms, seconds: int) -> None:
    vm = running(vms, "h2", disks=2)
    move = asked(vms, "VM.pool_migrate", vm, vms.hosts["h3"], {})
    after(vms, seconds)
    on_the_lab(vms, lambda lab: lab.machine("h3").power_off())
    after(vms, 60)
    assert outcome(vms, move) == "CANNOT_CONTACT_HOST"
    assert (vms.state(vm), machines_running(vms, vm), open_on(vms, vm)) == ("Halted", [], set())
    settled(vms)


def test_a_machine_without_power_opens_no_disk(vms: Vms) -> None:
    vm = vms.vm()
    vms.lab.clock.set_rate(200)
    for number in range(2):
        vms.give_disk(vm, vms.disk(vms.shared_storage()), userdevice=str(number))
    vms.lab.clock.set_rate(0)
    storage = vms.shared_storage()
    start = asked(vms, "VM.start_on", vm, vms.hosts["h2"], False, False)
    on_the_lab(vms, lambda lab: lab.faults.hold_lock(lab.db.get("SR", storage), 30))
    after(vms, 6)  # the first disk is open, the second waits for the storage
    on_the_lab(vms, lambda lab: lab.machine("h2").power_off())
    after(vms, 36)
    assert (machines_running(vms, vm), open_on(vms, vm)) == ([], set())
    after(vms, 60)
    assert outcome(vms, start) == "CANNOT_CONTACT_HOST"
    settled(vms)


def test_work_that_was_queued_on_a_toolstack_goes_with_it(vms: Vms) -> None:
    vm = running(vms, "h2")
    reboot = asked(vms, "VM.clean_reboot", vm)
    after(vms, 2)
    shutdown = asked(vms, "VM.hard_shutdown", vm)
    on_the_lab(vms, lambda lab: lab.machine("h2").restart_toolstack())
    after(vms, 200)
    assert outcome(vms, reboot) == outcome(vms, shutdown) == "CANNOT_CONTACT_HOST"
    settled(vms)


# --- the coordinator


def test_a_call_that_waited_for_its_turn_ends_with_the_coordinators_toolstack(vms: Vms) -> None:
    vm = running(vms, "h2")
    asked(vms, "VM.pool_migrate", vm, vms.hosts["h3"], {})
    asked(vms, "VM.clean_shutdown", vm)
    on_the_lab(vms, lambda lab: lab.coordinator.restart_toolstack())
    after(vms, 200)
    again = Vms(vms.lab)
    assert again.state(vm) == "Running"
    assert vms.lab.do(inconsistencies) == []
    again.session("close")()


def test_a_request_that_is_held_up_does_not_reach_a_coordinator_that_went_down(vms: Vms) -> None:
    on_the_lab(vms, lambda lab: lab.faults.inject("VM.create", "delay", seconds=20.0))
    with ThreadPoolExecutor() as threads:
        made = threads.submit(Vms(vms.lab).vm, name_label="late")
        while vms.lab.do(lambda lab: lab.faults.rules):
            after(vms, 0)
        on_the_lab(vms, lambda lab: lab.coordinator.crash_toolstack())
        after(vms, 30)
        on_the_lab(vms, lambda lab: lab.coordinator.restart_toolstack())
        after(vms, 60)
        with pytest.raises(ConnectionError):
            made.result()
    again = Vms(vms.lab)
    assert again.api.VM.get_by_name_label("late") == []
    again.session("close")()


def test_vms_of_a_member_that_came_back_alone_are_halted_when_the_coordinator_is_there(
    vms: Vms,
) -> None:
    vm = running(vms, "h3")
    on_the_lab(vms, lambda lab: lab.coordinator.power_off())
    on_the_lab(vms, lambda lab: lab.machine("h3").power_off())
    on_the_lab(vms, lambda lab: lab.machine("h3").power_on())
    after(vms, 200)
    on_the_lab(vms, lambda lab: lab.coordinator.power_on())
    after(vms, 200)
    again = Vms(vms.lab)
    assert again.state(vm) == "Halted"
    assert again.api.host.get_enabled(vms.hosts["h3"])
    assert vms.lab.do(inconsistencies) == []
    again.session("close")()


@contextmanager
def taken_over(vms: Vms, seconds: float) -> Iterator[Vms]:
    """h2 becomes the coordinator and has so long to settle: the pool as it says."""
    local = XenAPI.Session(vms.lab.urls[1])
    local.slave_local_login_with_password(vms.lab.username, vms.lab.password)
    local.xenapi.pool.emergency_transition_to_master()
    after(vms, seconds)
    again = Vms(vms.lab)
    try:
        yield again
    finally:
        for session in (local, again.session):
            session("close")()


def test_a_recovered_member_tells_what_it_does_not_run(vms: Vms) -> None:
    vm = running(vms, "h3")
    vms.api.pool.sync_database()
    on_the_lab(vms, lambda lab: lab.coordinator.power_off())
    on_the_lab(vms, lambda lab: lab.machine("h3").power_off())
    on_the_lab(vms, lambda lab: lab.machine("h3").power_on())
    after(vms, 200)
    with taken_over(vms, 30) as again:
        assert again.state(vm) == "Running"
        again.api.pool.recover_slaves()
        after(vms, 10)
        assert again.state(vm) == "Halted"


def test_a_member_that_takes_over_tells_what_left_it_after_its_copy_was_made(vms: Vms) -> None:
    left, came = running(vms, "h2"), running(vms, "h1")
    vms.api.pool.sync_database()
    finished(vms, "VM.pool_migrate", left, vms.hosts["h1"], {})
    finished(vms, "VM.pool_migrate", came, vms.hosts["h2"], {})
    on_the_lab(vms, lambda lab: lab.coordinator.power_off())
    with taken_over(vms, 60) as again:
        assert again.state(left) == "Halted"
        assert again.state(came) == "Running"
        assert again.api.VM.get_resident_on(came) == vms.hosts["h2"]
        finished(again, "VM.start_on", left, vms.hosts["h2"], False, False)
        assert vms.lab.do(inconsistencies) == []


def test_a_member_that_takes_over_goes_on_with_no_domain_that_it_was_building(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.pool.sync_database()
    asked(vms, "VM.start_on", vm, vms.hosts["h2"], False, False)
    after(vms, 7)
    on_the_lab(vms, lambda lab: lab.coordinator.power_off())
    with taken_over(vms, 200) as again:
        assert (again.state(vm), machines_running(again, vm)) == ("Halted", [])
        again.api.pool.recover_slaves()
        after(vms, 60)
        finished(again, "VM.start_on", vm, vms.hosts["h3"], False, False)
        assert vms.lab.do(inconsistencies) == []


# --- high availability


def test_a_host_that_is_back_before_another_is_recovered_keeps_its_vms(vms: Vms) -> None:
    finished(vms, "pool.enable_ha", [vms.shared_storage()], {})
    vm = running(vms, "h4")
    vms.api.pool.ha_prevent_restarts_for("120")
    on_the_lab(vms, lambda lab: lab.machine("h3").power_off())
    on_the_lab(vms, lambda lab: lab.machine("h4").power_off())
    after(vms, 70)  # both are given up; their VMs wait to be started again
    assert vms.state(vm) == "Halted"
    on_the_lab(vms, lambda lab: lab.machine("h4").power_on())
    after(vms, 15)
    start = asked(vms, "VM.start_on", vm, vms.hosts["h4"], False, False)
    after(vms, 300)
    assert outcome(vms, start) == "success"
    assert (vms.state(vm), machines_running(vms, vm)) == ("Running", ["h4"])
    settled(vms)


def test_arming_twice_at_once_makes_one_watch(vms: Vms) -> None:
    arm = [asked(vms, "pool.enable_ha", [vms.shared_storage()], {}) for _ in range(2)]
    after(vms, 30)
    assert sorted(outcome(vms, task) for task in arm) == ["HA_IS_ENABLED", "success"]
