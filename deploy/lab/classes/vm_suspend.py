"""Suspending and resuming VMs (recorded: lifecycle_suspended, records_vm_family, event_vm_life)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab import domains
from deploy.lab.classes import vbd_operations, vm_disks
from deploy.lab.classes.devices import linux_name
from deploy.lab.classes.host_operations import given_to_host
from deploy.lab.classes.suspend_image import drop_image, make_image
from deploy.lab.classes.vm_lifecycle import (
    SUSPENDED,
    assert_power_state,
    check_operation,
    reset_to,
)
from deploy.lab.classes.vm_power import keep_running, let_stop, named, refresh_devices, tell
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward, marked, passed_cancel_points, pause
from deploy.lab.operations import operation, refresh
from deploy.lab.placement import check_can_boot, choose_host

if TYPE_CHECKING:
    from deploy.lab.guest import Guest
    from deploy.lab.machine import Machine


@message("VM.suspend")
async def suspend(call: Call, vm: Row) -> None:
    async with operation(call, vm, "suspend", check_operation):
        await put_to_sleep(call, vm)
    tell(call, vm, "VM_SUSPENDED", "suspended")
    refresh_devices(call, vm)


async def put_to_sleep(call: Call, vm: Row) -> None:
    """Write the VM's memory to an image and end its domain; the caller holds the operation."""
    machine = await forward(call, vm.resident_on)
    let_stop(call, vm)
    await make_image(call, vm, machine.host)
    try:
        async with machine.xenopsd.turn(vm.uuid):
            domains.check_is_there(vm, machine, "running")
            await _write_memory(call, vm, machine)
            passed_cancel_points(call, 9)
            _end_domain(call, vm, machine)
    except XapiError:
        if vm.power_state != "Suspended":
            await drop_image(call, vm)
        raise


async def _write_memory(call: Call, vm: Row, machine: Machine) -> None:
    guest: Guest = machine.domains[vm.uuid]
    if guest.is_up and not guest.acknowledges():
        await pause(call, call.lab.config.durations.shutdown_acknowledgement)
        raise XapiError("VM_FAILED_SUSPEND_ACKNOWLEDGMENT", vm.ref)
    await machine.xenopsd.work(call.lab.config.durations.suspend)
    call.check_cancelled()
    await call.lab.backend.save(machine, guest)


def _end_domain(call: Call, vm: Row, machine: Machine) -> None:
    guest: Guest = machine.domains.pop(vm.uuid)
    vm_disks.close_disks(call.lab, vm)
    if not call.lab.config.hypervisor.keeps_devices:
        for cls, refs in (("VBD", vm.VBDs), ("VIF", vm.VIFs)):
            for device in call.db.rows(cls, refs):
                # The recorded one knew disks by their names, and lost sight of renamed ones.
                if cls == "VIF" or device.device == linux_name(device.userdevice):
                    call.db.update(device, currently_attached=False)
    guest.freeze()
    call.lab.sleeping[vm.uuid] = guest
    call.db.update(vm, last_booted_record=domains.boot_record(call.lab, vm, guest))
    reset_to(call.lab, vm, "Suspended")
    domains.remove_consoles(call.lab, vm)
    domains.show_devices(call.lab, vm)


@message("VM.resume")
async def resume(call: Call, vm: Row, start_paused: bool, force: bool) -> None:
    host = await wake_up(call, vm, "resume", None, start_paused)
    tell(call, vm, "VM_RESUMED", f"resumed on {named(host)}")


@message("VM.resume_on")
async def resume_on(call: Call, vm: Row, host: str, start_paused: bool, force: bool) -> None:
    wanted = call.db.get("host", host)
    await wake_up(call, vm, "resume_on", wanted, start_paused)
    tell(call, vm, "VM_RESUMED", f"resumed on {named(wanted)}")


async def wake_up(call: Call, vm: Row, op: str, wanted: Row | None, paused: bool) -> Row:
    def choose() -> Row:
        if wanted is None:
            return choose_host(call.lab, vm)
        check_can_boot(call.lab, vm, wanted.ref)
        return wanted

    async with (
        operation(call, vm, op, check_operation),
        marked(call, call.db.rows("VBD", vm.VBDs), vbd_operations.check_operation),
        given_to_host(call, vm, choose, "vm_resume") as host,
    ):
        machine = await forward(call, host.ref)
        keep_running(call, vm)
        await restore(call, vm, machine, paused=paused)
    refresh_devices(call, vm)
    return host


async def restore(call: Call, vm: Row, machine: Machine, *, paused: bool) -> None:
    """Make the domain again from the VM's image; the image is destroyed.

    Raises VM_BAD_POWER_STATE when the VM was shut down meanwhile.
    """
    lab = call.lab
    async with machine.xenopsd.turn(vm.uuid):
        await vm_disks.open_disks(lab, vm, machine, booting=False)
        try:
            await machine.xenopsd.work(lab.config.durations.resume)
            assert_power_state(vm, SUSPENDED)
            guest = _sleeper(vm, machine)
            await lab.backend.restore(machine, guest)
        except XapiError:
            vm_disks.close_disks_on(lab, vm, machine)
            raise
        passed_cancel_points(call, 6)
        lab.sleeping.pop(vm.uuid, None)
        machine.domains[vm.uuid] = guest
        domains.attach_networks(lab, vm, machine)
        domains.arrive(call, vm, machine)
        call.db.update(
            vm,
            power_state="Paused" if paused else "Running",
            domid=machine.xenopsd.next_domid(),
        )
        refresh(lab, vm)
        metrics = call.db.find("VM_guest_metrics", vm.guest_metrics)
        if metrics is not None:
            call.db.update(metrics, last_updated=lab.clock.date())
        domains.make_consoles(lab, vm, machine)
        domains.show_devices(lab, vm)
        domains.name_disks(lab, vm)
        await drop_image(call, vm)
        if not paused:
            await lab.backend.unpause(machine, guest)


def _sleeper(vm: Row, machine: Machine) -> Guest:
    """The guest in the VM's image; of one that was forgotten it is only known that it had booted."""
    guest = machine.lab.sleeping.get(vm.uuid)
    if guest is None:
        guest = machine.lab.backend.new_guest(vm, machine)
        guest.wake_booted()
    guest.on_end = machine.guest_ended
    return guest
