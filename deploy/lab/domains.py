"""What a host does with a VM's domain, and what the database shows of it step by step.

Order and intermediate states: recorded in event_vm_life and start_records.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deploy.lab.classes import vif, vm_disks
from deploy.lab.classes.devices import linux_name
from deploy.lab.classes.vm_lifecycle import reset_to
from deploy.lab.classes.wiring import attach_network
from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.forward import first_of, passed_cancel_points, pause, subtask
from deploy.lab.guest import End, new_guest_metrics
from deploy.lab.operations import refresh
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.guest import Guest
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine


async def start(call: Call, vm: Row, machine: Machine, *, paused: bool) -> None:
    """Make the domain on `machine` and let it run, unless `paused`. Raises DOMAIN_EXISTS."""
    lab, xenopsd = call.lab, machine.xenopsd
    half = lab.config.durations.start / 2
    async with xenopsd.turn(vm.uuid):
        life = machine.life
        if vm.uuid in machine.domains:
            raise XapiError("DOMAIN_EXISTS", vm.ref, str(vm.domid))
        if vm.generation_id:
            lab.db.update(vm, generation_id=new_generation(lab))
        try:
            await vm_disks.open_disks(lab, vm, machine)
            xenopsd.check_alive(life)
            attach_devices(lab, vm, machine)
            await xenopsd.work(half)
            guest = lab.backend.new_guest(vm, machine)
            guest.is_whole = False
            machine.domains[vm.uuid] = guest
            arrive(call, vm, machine)
            await lab.backend.build(machine, guest)
            await xenopsd.work(half)
        except XapiError:
            abandon(lab, vm, machine)
            raise
        passed_cancel_points(call, 6)
        guest.is_whole = True
        show_started(lab, vm, machine, paused=paused)
        if not paused:
            await lab.backend.unpause(machine, guest)


def abandon(lab: Lab, vm: Row, machine: Machine) -> None:
    """A start that failed half-way leaves the VM as it was."""
    half: Guest | None = machine.domains.get(vm.uuid)
    if half is not None and not half.is_whole:
        machine.domains.pop(vm.uuid)
    vm_disks.close_disks(lab, vm)
    reset_to(lab, vm, "Halted")


def new_generation(lab: Lab) -> str:
    high, low = lab.random.getrandbits(63), lab.random.getrandbits(63)
    return f"{high}:{low}"


def arrive(call: Call, vm: Row, machine: Machine) -> None:
    """The host tells the coordinator that it has the VM."""
    with subtask(call, "VM.atomic_set_resident_on"):
        call.db.update(vm, resident_on=machine.host.ref, scheduled_to_be_resident_on=NULL)


def show_started(lab: Lab, vm: Row, machine: Machine, *, paused: bool) -> None:
    """What the database shows of a domain that has just been built."""
    db = lab.db
    db.update(vm, power_state="Paused" if paused else "Running")
    metrics = db.find("VM_metrics", vm.metrics)
    kind = domain_type(vm)
    if metrics is not None:
        db.update(metrics, current_domain_type=kind)
    new_guest_metrics(lab, vm)
    db.update(
        vm,
        domid=machine.xenopsd.next_domid(),
        memory_target=vm.memory_dynamic_max,
        last_boot_CPU_flags={
            "vendor": machine.host.cpu_info.get("vendor", ""),
            "features": vm.platform.get("featureset", ""),
        },
    )
    if metrics is not None:
        db.update(
            metrics,
            VCPUs_number=vm.VCPUs_at_startup,
            start_time=lab.clock.date(),
            hvm=kind == "hvm",
            nested_virt=vm.platform.get("nested-virt") in ("true", "1"),
            nomigrate=vm.platform.get("nomigrate") in ("true", "1"),
        )
        lab.spawn(_report_memory(lab, vm, metrics))
    make_consoles(lab, vm, machine)
    show_devices(lab, vm)
    name_disks(lab, vm)


async def _report_memory(lab: Lab, vm: Row, metrics: Row) -> None:
    """The monitor's first look at the domain."""
    await lab.clock.sleep(lab.config.durations.memory_report)
    if vm.power_state in ("Running", "Paused"):
        lab.db.update(metrics, memory_actual=vm.memory_target)


def domain_type(vm: Row) -> str:
    if vm.domain_type != "unspecified":
        return str(vm.domain_type)
    return "hvm" if vm.HVM_boot_policy else "pv"


# --- devices


def attach_devices(lab: Lab, vm: Row, machine: Machine) -> None:
    """Plug everything the VM has, before its domain is built."""
    vif.attach_all(lab, vm, machine.host)
    for vbd in lab.db.rows("VBD", vm.VBDs):
        lab.db.update(vbd, currently_attached=True)


def attach_networks(lab: Lab, vm: Row, machine: Machine) -> None:
    """Have the networks of the VM's plugged interfaces on the machine."""
    for interface in lab.db.rows("VIF", vm.VIFs):
        if interface.currently_attached:
            attach_network(lab, lab.db.get("network", interface.network), machine.host)


def name_disks(lab: Lab, vm: Row) -> None:
    """What a new domain calls its disks; a later change of userdevice waits for the next one."""
    for vbd in lab.db.rows("VBD", vm.VBDs):
        if vbd.currently_attached or vbd.device:
            lab.db.update(vbd, device=linux_name(vbd.userdevice))


def show_devices(lab: Lab, vm: Row) -> None:
    """What may be done with devices, after a change of the domain."""
    for vbd in lab.db.rows("VBD", vm.VBDs):
        refresh(lab, vbd)
        vdi = lab.db.find("VDI", vbd.VDI)
        if vdi is not None:
            refresh(lab, vdi)
    for interface in lab.db.rows("VIF", vm.VIFs):
        refresh(lab, interface)


def make_consoles(lab: Lab, vm: Row, machine: Machine) -> None:
    """The console records of a domain: graphics and text, at its host."""
    remove_consoles(lab, vm)
    if not lab.config.hypervisor.has_consoles:
        return
    for protocol in ("rfb", "vt100"):
        console = lab.db.create("console", protocol=protocol, VM=vm.ref)
        lab.db.update(console, location=console_location(machine, console.ref))


def console_location(machine: Machine, ref: str) -> str:
    port = "" if machine.port in (0, 443) else f":{machine.port}"
    return f"https://{machine.address}{port}/console?ref={ref}"


def remove_consoles(lab: Lab, vm: Row) -> None:
    for console in lab.db.rows("console", list(vm.consoles)):
        lab.db.delete(console)


# --- the end of a domain


@asynccontextmanager
async def turn_at_home(call: Call, vm: Row, machine: Machine) -> AsyncIterator[Machine]:
    """The VM's turn on the machine that has it then: it may move while this waits."""
    while True:
        async with machine.xenopsd.turn(vm.uuid):
            home = call.lab.machines.get(vm.resident_on, machine)
            if home is machine:
                yield machine
                return
        machine = home


def check_is_there(vm: Row, machine: Machine, expected: str) -> None:
    """Raise VM_BAD_POWER_STATE when the domain went while this waited its turn."""
    if vm.uuid not in machine.domains:
        raise XapiError("VM_BAD_POWER_STATE", vm.ref, expected, vm.power_state.lower())


async def stop(call: Call, vm: Row, machine: Machine) -> None:
    """Destroy the domain, whatever its guest says to it."""
    async with turn_at_home(call, vm, machine) as home:
        await _stop_in_turn(call.lab, vm, home)


async def shut_down(call: Call, vm: Row, machine: Machine) -> None:
    """Ask the guest to shut down, then clear away. Raises what `ask` raises."""
    async with turn_at_home(call, vm, machine) as machine:
        await ask(call, vm, machine, "poweroff")
        passed_cancel_points(call, 9 if call.cancelled.is_set() else 7)
        await _stop_in_turn(call.lab, vm, machine)


async def _stop_in_turn(lab: Lab, vm: Row, machine: Machine) -> None:
    guest = machine.domains.get(vm.uuid)
    if guest is not None:
        guest.kill()
        await machine.xenopsd.work(lab.config.durations.stop)
        await lab.backend.unmake(machine, guest)
        machine.domains.pop(vm.uuid)
    show_halted(lab, vm)


def show_halted(lab: Lab, vm: Row) -> None:
    """What the database shows of a VM whose domain was seen to go."""
    force_halted(lab, vm)
    lab.db.update(vm, memory_target=0)


def force_halted(lab: Lab, vm: Row) -> None:
    """Say that the VM is Halted, whether or not its domain was seen to go."""
    vm_disks.close_disks(lab, vm)
    lab.sleeping.pop(vm.uuid, None)
    reset_to(lab, vm, "Halted")
    clear_metrics(lab, vm)
    remove_consoles(lab, vm)
    show_devices(lab, vm)


def clear_metrics(lab: Lab, vm: Row) -> None:
    metrics = lab.db.find("VM_metrics", vm.metrics)
    if metrics is not None:
        lab.db.update(
            metrics,
            current_domain_type="unspecified",
            VCPUs_number=0,
            hvm=False,
            nested_virt=False,
            nomigrate=False,
            memory_actual=0,
        )


async def ask(call: Call, vm: Row, machine: Machine, reason: End) -> None:
    """Have the guest end itself.

    Raises VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT [vm] after 60 s without an answer, VM_SHUTDOWN_TIMEOUT
    [vm, seconds] when it answered and did nothing for 1200 s, TASK_CANCELLED.
    """
    durations, life = call.lab.config.durations, machine.life
    guest: Guest | None = machine.domains.get(vm.uuid)
    if guest is None:
        return
    if not guest.acknowledges():
        await pause(call, durations.shutdown_acknowledgement)
        if not guest.acknowledges():
            raise XapiError("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", vm.ref)
    guest.obey(reason)
    await first_of(
        guest.stopped.wait(), call.lab.clock.sleep(durations.shutdown), _cancelled_late(call)
    )
    machine.xenopsd.check_alive(life)
    if not guest.stopped.is_set():
        call.check_cancelled()
        raise XapiError("VM_SHUTDOWN_TIMEOUT", vm.ref, f"{durations.shutdown:g}.")


async def _cancelled_late(call: Call) -> None:
    await call.cancelled.wait()
    await call.lab.clock.sleep(call.lab.config.durations.cancel)


# --- reboot, pause


async def reboot(call: Call, vm: Row, machine: Machine, *, clean: bool) -> None:
    """A new domain in the place of the old one.

    Raises VM_BAD_POWER_STATE when the old one went while this waited its turn.
    """
    lab = call.lab
    async with turn_at_home(call, vm, machine) as machine:
        check_is_there(vm, machine, "running" if clean else "paused, running")
        if clean:
            await ask(call, vm, machine, "reboot")
        passed_cancel_points(call, 17 if clean else 16)
        await rebuild(lab, vm, machine)


async def rebuild(lab: Lab, vm: Row, machine: Machine) -> None:
    """Replace the domain, which is there, by a fresh one; the caller has the VM's turn.

    The old one stays in its place until then: a look at the machine meanwhile finds the VM there.
    """
    old: Guest = machine.domains[vm.uuid]
    life = machine.life
    old.kill()
    try:
        await machine.xenopsd.work(lab.config.durations.start)
        await lab.backend.unmake(machine, old)
        vm_disks.close_disks_on(lab, vm, machine)
        await vm_disks.open_disks(lab, vm, machine)
        machine.xenopsd.check_alive(life)
        guest = lab.backend.new_guest(vm, machine)
        await lab.backend.build(machine, guest)
    except XapiError:
        if machine.domains.get(vm.uuid) is old:
            machine.domains.pop(vm.uuid)
            show_halted(lab, vm)
        raise
    machine.domains[vm.uuid] = guest
    attach_devices(lab, vm, machine)
    show_started(lab, vm, machine, paused=False)
    await lab.backend.unpause(machine, guest)


async def set_paused(call: Call, vm: Row, machine: Machine, paused: bool) -> None:
    """Freeze or thaw the guest. Raises VM_BAD_POWER_STATE when it is gone."""
    async with turn_at_home(call, vm, machine) as machine:
        await machine.xenopsd.work(call.lab.config.durations.pause)
        check_is_there(vm, machine, "running" if paused else "paused")
        guest: Guest = machine.domains[vm.uuid]
        if paused:
            await call.lab.backend.pause(machine, guest)
            if not call.lab.config.hypervisor.hears_paused_guests:
                guest.unreport()
        else:
            await call.lab.backend.unpause(machine, guest)
        call.db.update(vm, power_state="Paused" if paused else "Running")
        show_devices(call.lab, vm)


def boot_record(lab: Lab, vm: Row, guest: Guest) -> str:
    """VM.last_booted_record of a suspended VM: the hypervisor's own notes."""
    return json.dumps(
        {
            "last_create_time": int(guest.started_at),
            "xsdata": vm.xenstore_data,
            "vusbs": [],
            "vgpus": [],
            "pcis": [],
            "vifs": [],
            "vbds": [],
            "suspended": True,
            "qemu_created": False,
            "memory_dynamic_max": vm.memory_dynamic_max,
            "memory_dynamic_min": vm.memory_dynamic_min,
            "shadow_multiplier": vm.HVM_shadow_multiplier,
            "vcpus": vm.VCPUs_max,
            "built": True,
            "paused": True,
            "hvm": domain_type(vm) == "hvm",
            "uuid": vm.uuid,
            "domid": vm.domid,
        },
        separators=(",", ":"),
    )


def new_uuid(lab: Lab) -> str:
    return str(uuid.UUID(int=lab.random.getrandbits(128), version=4))
