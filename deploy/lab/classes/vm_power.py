"""Starting, stopping, rebooting and pausing VMs.

Facts: FACTS 3 and 4, message_forwarding.ml and xapi_vm.ml of xen-api; recorded: lifecycle_*,
start_records, concurrency, placement_errors.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.lab import domains
from deploy.lab.classes import message as messages
from deploy.lab.classes import vbd_operations, vm_disks
from deploy.lab.classes import vif as vifs
from deploy.lab.classes.host_operations import given_to_host
from deploy.lab.classes.suspend_image import drop_image
from deploy.lab.classes.vm_lifecycle import check_operation, is_live
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.failover import check_plan
from deploy.lab.forward import forward, marked
from deploy.lab.memory import memory_overhead
from deploy.lab.operations import operation, refresh
from deploy.lab.placement import check_can_boot, choose_host, possible_hosts

BIOS_STRINGS = {
    "bios-vendor": "Xen",
    "bios-version": "",
    "system-manufacturer": "Xen",
    "system-product-name": "HVM domU",
    "system-version": "",
    "system-serial-number": "",
    "baseboard-manufacturer": "",
    "baseboard-product-name": "",
    "baseboard-version": "",
    "baseboard-serial-number": "",
    "baseboard-asset-tag": "",
    "baseboard-location-in-chassis": "",
    "enclosure-asset-tag": "",
    "hp-rombios": "",
    "oem-1": "Xen",
    "oem-2": "MS_VM_CERT/SHA1/bdbeb6e0a816d43fa6d3fe8aaef04c2bad9d3e3d",
}


def tell(call: Call, vm: Row, name: str, what: str) -> None:
    """The alert that a change of a VM's life leaves behind."""
    body = f"VM '{vm.name_label}' (uuid: {vm.uuid}) {what}"
    messages.post(call.lab, name, "VM", vm.uuid, body)


def named(host: Row) -> str:
    return f"host: {host.name_label} (uuid: {host.uuid})"


def refresh_devices(call: Call, vm: Row) -> None:
    for vbd in call.db.rows("VBD", vm.VBDs):
        vm_disks.show_disk(call.lab, vbd)
    for vif in call.db.rows("VIF", vm.VIFs):
        refresh(call.lab, vif)


@asynccontextmanager
async def devices_marked(call: Call, vm: Row) -> AsyncIterator[None]:
    """Keep others from the VM's disks and interfaces while its domain is made."""
    async with (
        marked(call, call.db.rows("VBD", vm.VBDs), vbd_operations.check_operation),
        marked(call, call.db.rows("VIF", vm.VIFs), vifs.check_operation),
    ):
        yield


def check_not_evacuating(host: Row) -> None:
    if "evacuate" in host.current_operations.values():
        raise XapiError("HOST_EVACUATE_IN_PROGRESS", host.ref)


# --- start


@message("VM.start")
async def start(call: Call, vm: Row, start_paused: bool, force: bool) -> None:
    host = await _start(call, vm, "start", None, start_paused)
    tell(call, vm, "VM_STARTED", f"started on {named(host)}")


@message("VM.start_on")
async def start_on(call: Call, vm: Row, host: str, start_paused: bool, force: bool) -> None:
    wanted = call.db.get("host", host)
    check_not_evacuating(wanted)
    await _start(call, vm, "start_on", wanted, start_paused)
    tell(call, vm, "VM_STARTED", f"started on {named(wanted)}")


async def _start(call: Call, vm: Row, op: str, wanted: Row | None, paused: bool) -> Row:
    lab = call.lab

    def choose() -> Row:
        if wanted is None:
            return choose_host(lab, vm)
        check_can_boot(lab, vm, wanted.ref)
        return wanted

    if vm.ha_restart_priority == "restart":
        check_plan(lab, adding=vm)
    async with operation(call, vm, op, check_operation), devices_marked(call, vm):
        prepare(call, vm)
        async with given_to_host(call, vm, choose, "vm_start") as host:
            machine = await forward(call, host.ref)
            keep_running(call, vm)
            await domains.start(call, vm, machine, paused=paused)
            refresh(lab, vm)
    refresh_devices(call, vm)
    return host


def prepare(call: Call, vm: Row) -> None:
    """What a start writes into the VM before anything else."""
    platform = dict(vm.platform)
    if domains.domain_type(vm) == "hvm" and "device-model" not in platform:
        uefi = vm.HVM_boot_params.get("firmware") == "uefi"
        model = "qemu-upstream-uefi" if uefi else "qemu-upstream-compat"
        platform = {"device-model": model, **platform}
    call.db.update(
        vm,
        platform=platform,
        memory_overhead=memory_overhead(vm),
        bios_strings=vm.bios_strings or dict(BIOS_STRINGS),
    )


def keep_running(call: Call, vm: Row) -> None:
    """A VM with restart priority `restart` is to run always once it was started."""
    if vm.ha_restart_priority == "restart":
        call.db.update(vm, ha_always_run=True)


def let_stop(call: Call, vm: Row) -> None:
    call.db.update(vm, ha_always_run=False)


@message("VM.get_possible_hosts")
def get_possible_hosts(call: Call, vm: Row) -> list[str]:
    return [host.ref for host in possible_hosts(call.lab, vm)]


@message("VM.assert_can_boot_here")
def assert_can_boot_here(call: Call, vm: Row, host: str) -> None:
    check_can_boot(call.lab, vm, host)


# --- stop


@message("VM.clean_shutdown")
async def clean_shutdown(call: Call, vm: Row) -> None:
    async with operation(call, vm, "clean_shutdown", check_operation):
        await _clean(call, vm)
    tell(call, vm, "VM_SHUTDOWN", "shutdown")
    refresh_devices(call, vm)


@message("VM.hard_shutdown")
async def hard_shutdown(call: Call, vm: Row) -> None:
    host = vm.resident_on
    async with operation(call, vm, "hard_shutdown", check_operation):
        overrule(call, vm, _OVERRULED | {"hard_reboot"})
        await _hard(call, vm, host)
    tell(call, vm, "VM_SHUTDOWN", "shutdown forcibly")
    refresh_devices(call, vm)


@message("VM.shutdown")
async def shutdown(call: Call, vm: Row) -> None:
    """Cleanly if the guest obeys, by force otherwise."""
    async with operation(call, vm, "shutdown", check_operation):
        host = vm.resident_on
        try:
            if vm.power_state == "Running":
                await _clean(call, vm)
        except XapiError as error:
            if error.code in ("TASK_CANCELLED", "HOST_OFFLINE", "CANNOT_CONTACT_HOST"):
                raise
        if vm.power_state != "Halted":
            await _hard(call, vm, host)
    refresh_devices(call, vm)
    tell(call, vm, "VM_SHUTDOWN", "shutdown")


async def _clean(call: Call, vm: Row) -> None:
    machine = await forward(call, vm.resident_on)
    let_stop(call, vm)
    await domains.shut_down(call, vm, machine)


async def _hard(call: Call, vm: Row, host: str) -> None:
    if vm.power_state == "Suspended":
        let_stop(call, vm)
        await drop_image(call, vm)
        if not is_live(vm):
            domains.show_halted(call.lab, vm)
            return
        # It was being resumed, and has come up since.
        host = vm.resident_on
    machine = await forward(call, host)
    let_stop(call, vm)
    await domains.stop(call, vm, machine)


_OVERRULED = frozenset({"clean_shutdown", "clean_reboot", "pool_migrate", "call_plugin", "suspend"})


def overrule(call: Call, vm: Row, operations: frozenset[str]) -> None:
    """Cancel those operations of the VM, whoever asked for them (message_forwarding.ml)."""
    for task, op in vm.current_operations.items():
        other = call.lab.tasks.calls.get(task)
        if task == call.task or other is None or op not in operations:
            continue
        other.cancelled.set()
        row = call.db.find("task", task)
        if row is not None:
            key = f"DummyRef:|{uuid.uuid4()}|task.cancel"
            call.db.update(row, current_operations={**row.current_operations, key: "cancel"})


# --- reboot


@message("VM.clean_reboot")
async def clean_reboot(call: Call, vm: Row) -> None:
    async with operation(call, vm, "clean_reboot", check_operation), devices_marked(call, vm):
        await _reboot(call, vm, vm.resident_on, clean=True)
    tell(call, vm, "VM_REBOOTED", "rebooted cleanly")
    refresh_devices(call, vm)


@message("VM.hard_reboot")
async def hard_reboot(call: Call, vm: Row) -> None:
    host = vm.resident_on
    async with operation(call, vm, "hard_reboot", check_operation):
        overrule(call, vm, _OVERRULED)
        async with devices_marked(call, vm):
            await _reboot(call, vm, host, clean=False)
    tell(call, vm, "VM_REBOOTED", "rebooted forcibly")
    refresh_devices(call, vm)


async def _reboot(call: Call, vm: Row, host: str, *, clean: bool) -> None:
    machine = await forward(call, host)
    await domains.reboot(call, vm, machine, clean=clean)


# --- pause


@message("VM.pause")
async def pause(call: Call, vm: Row) -> None:
    async with operation(call, vm, "pause", check_operation):
        await domains.set_paused(call, vm, await forward(call, vm.resident_on), True)
    refresh_devices(call, vm)
    tell(call, vm, "VM_PAUSED", "paused")


@message("VM.unpause")
async def unpause(call: Call, vm: Row) -> None:
    async with operation(call, vm, "unpause", check_operation):
        await domains.set_paused(call, vm, await forward(call, vm.resident_on), False)
    refresh_devices(call, vm)
    tell(call, vm, "VM_UNPAUSED", "unpaused")
