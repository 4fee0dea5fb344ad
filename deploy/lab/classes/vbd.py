"""Virtual block devices: making them, plugging them, and what lies in drives.

Facts: FACTS 7, xen-api xapi_vbd.ml; recorded: vbd_create, vbd_plug_states.
"""

from __future__ import annotations

from typing import Any

from deploy.lab.classes import devices
from deploy.lab.classes.vbd_operations import check_operation, is_hvm
from deploy.lab.classes.vm_disks import close_disk, open_disk, show_disk
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward, resident
from deploy.lab.generic import constructor_values
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL

ATTACHABLE_TYPES = frozenset(
    {"system", "user", "ephemeral", "suspend", "crashdump", "metadata", "rrd", "pvs_cache"}
)
_MIGRATIONS = ("migrate_send", "pool_migrate")


@message("VBD.create")
def create(call: Call, record: dict[str, Any]) -> str:
    return make(call, **constructor_values(call.message, record)).ref


def make(call: Call, **values: Any) -> Row:
    """A new VBD, not plugged. `values` are the fields of VBD.create.

    Raises VDI_INCOMPATIBLE_TYPE, VBD_CDS_MUST_BE_READONLY, VBD_NOT_REMOVABLE_MEDIA,
    VDI_READONLY, OTHER_OPERATION_IN_PROGRESS, INVALID_DEVICE, DEVICE_ALREADY_EXISTS.
    """
    _check_medium(call, values)
    vm = call.db.get("VM", values["VM"])
    _check_not_migrating(vm)
    values["userdevice"] = _choose_device(call, vm, values["userdevice"], values["type"])
    _check_agile(call, vm, values)
    if vm.power_state != "Suspended":
        values |= {"device": "", "currently_attached": False}
    vbd = call.db.create("VBD", **values, metrics=call.db.create("VBD_metrics").ref)
    refresh(call.lab, vbd)
    return vbd


def _check_medium(call: Call, values: dict[str, Any]) -> None:
    is_cd, empty = values["type"] == "CD", values["empty"]
    if not empty:
        vdi = call.db.get("VDI", values["VDI"])
        if vdi.type not in ATTACHABLE_TYPES:
            raise XapiError("VDI_INCOMPATIBLE_TYPE", vdi.ref, vdi.type)
    if is_cd and values["mode"] != "RO":
        raise XapiError("VBD_CDS_MUST_BE_READONLY")
    if not is_cd and empty:
        raise XapiError("VBD_NOT_REMOVABLE_MEDIA", "in constructor")
    if values["mode"] == "RW" and call.db.get("VDI", values["VDI"]).read_only:
        raise XapiError("VDI_READONLY", values["VDI"])


def _check_not_migrating(vm: Row) -> None:
    for current in vm.current_operations.values():
        if current in _MIGRATIONS:
            raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VM", vm.ref, current)


def _choose_device(call: Call, vm: Row, wanted: str, kind: str) -> str:
    vbds = call.db.rows("VBD", vm.VBDs)
    if not devices.is_valid(wanted):
        raise XapiError("INVALID_DEVICE", wanted)
    if wanted == "autodetect":
        free = devices.allowed(vm, vbds, kind)
        if not free:
            raise XapiError("INVALID_DEVICE", wanted)
        return free[0]
    if devices.meanings(wanted) & devices.used(vbds):
        raise XapiError("DEVICE_ALREADY_EXISTS", wanted)
    return wanted


def _check_agile(call: Call, vm: Row, values: dict[str, Any]) -> None:
    """A protected VM must not get a disk that only some hosts see (FACTS 11)."""
    pool = call.lab.pool
    if values["empty"] or not pool.ha_enabled or pool.ha_allow_overcommit:
        return
    if not (vm.ha_always_run and vm.ha_restart_priority == "restart"):
        return
    sr = call.db.find("SR", call.db.get("VDI", values["VDI"]).SR)
    if sr is None or not sr.shared:
        raise XapiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")


@message("VBD.destroy")
def destroy(call: Call, vbd: Row) -> None:
    if vbd.currently_attached or vbd.reserved:
        vm = call.db.get("VM", vbd.VM)
        text = f"VBD '{vbd.uuid}' still attached to '{vm.uuid}'"
        raise XapiError("OPERATION_NOT_ALLOWED", text)
    remove(call, vbd)


def remove(call: Call, vbd: Row) -> None:
    """Delete the record and what belongs to it."""
    metrics = call.db.find("VBD_metrics", vbd.metrics)
    if metrics is not None:
        call.db.delete(metrics)
    vdi = call.db.find("VDI", vbd.VDI)
    call.db.delete(vbd)
    if vdi is not None:
        refresh(call.lab, vdi)


# --- plugging


@message("VBD.plug")
async def plug(call: Call, vbd: Row) -> None:
    async with operation(call, vbd, "plug", check_operation):
        vm, machine = await resident(call, vbd)
        if vbd.type == "Disk" and vbd.mode == "RO" and is_hvm(call.lab, vm):
            raise XapiError("DISK_VBD_MUST_BE_READWRITE_FOR_HVM", vbd.ref)
        async with machine.xenopsd.turn(vm.uuid):
            await open_disk(call.lab, vbd, machine)
            try:
                await call.lab.backend.plug_disk(machine, vbd)
            except XapiError:
                close_disk(call.lab, vbd, machine)
                raise
        call.db.update(vbd, currently_attached=True, device=devices.linux_name(vbd.userdevice))
        show_disk(call.lab, vbd)
    show_disk(call.lab, vbd)


@message("VBD.unplug")
async def unplug(call: Call, vbd: Row) -> None:
    await _unplug(call, vbd, "unplug")


@message("VBD.unplug_force", "VBD.unplug_force_no_safety_check")
async def unplug_force(call: Call, vbd: Row) -> None:
    await _unplug(call, vbd, "unplug_force")


async def _unplug(call: Call, vbd: Row, name: str) -> None:
    async with operation(call, vbd, name, check_operation):
        vm, machine = await resident(call, vbd)
        async with machine.xenopsd.turn(vm.uuid):
            await call.lab.backend.unplug_disk(machine, vbd, force=name == "unplug_force")
            close_disk(call.lab, vbd, machine)
        call.db.update(vbd, currently_attached=False)
        show_disk(call.lab, vbd)
    show_disk(call.lab, vbd)


@message("VBD.assert_attachable")
def assert_attachable(call: Call, vbd: Row) -> None:
    check_operation(call.lab, vbd, "attach")


# --- drives


@message("VBD.insert")
async def insert(call: Call, vbd: Row, vdi: str) -> None:
    disk = call.db.get("VDI", vdi)
    async with operation(call, vbd, "insert", check_operation):
        if not disk.managed:
            raise XapiError("VDI_NOT_MANAGED", disk.ref)
        vm = call.db.get("VM", vbd.VM)
        if vm.power_state in ("Running", "Paused"):
            machine = await forward(call, vm.resident_on)
            call.db.update(vbd, VDI=disk.ref, empty=False)
            try:
                await open_disk(call.lab, vbd, machine)
            except XapiError:
                call.db.update(vbd, VDI=NULL, empty=True)
                raise
            call.db.update(vbd, currently_attached=True)
        else:
            call.db.update(vbd, VDI=disk.ref, empty=False)
    show_disk(call.lab, vbd)


@message("VBD.eject")
async def eject(call: Call, vbd: Row) -> None:
    async with operation(call, vbd, "eject", check_operation):
        vm, disk = call.db.get("VM", vbd.VM), call.db.find("VDI", vbd.VDI)
        if vm.power_state in ("Running", "Paused"):
            machine = await forward(call, vm.resident_on)
            await call.lab.clock.sleep(call.lab.config.storage.plug)
            close_disk(call.lab, vbd, machine)
        call.db.update(vbd, VDI=NULL, empty=True)
        if disk is not None:
            refresh(call.lab, disk)


@message("VBD.pause")
async def pause(call: Call, vbd: Row) -> str:
    async with operation(call, vbd, "pause", check_operation):
        raise _no_pausing(call, vbd)


@message("VBD.unpause")
async def unpause(call: Call, vbd: Row, token: str) -> None:
    async with operation(call, vbd, "unpause", check_operation):
        raise _no_pausing(call, vbd)


def _no_pausing(call: Call, vbd: Row) -> XapiError:
    return XapiError("SR_OPERATION_NOT_SUPPORTED", call.db.get("VDI", vbd.VDI).SR)


# --- fields


@message("VBD.set_mode")
def set_mode(call: Call, vbd: Row, value: str) -> None:
    vm = call.db.get("VM", vbd.VM)
    if vm.power_state != "Halted":
        raise XapiError("VM_BAD_POWER_STATE", vm.ref, "halted", vm.power_state.lower())
    call.db.update(vbd, mode=value)
