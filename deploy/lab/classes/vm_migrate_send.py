"""Moving VMs together with their disks, within the pool.

Facts: FACTS 5; xapi_vm_migrate.ml of xen-api. To another pool nothing can be sent from here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from deploy.lab.classes import vdi_operations
from deploy.lab.classes.host_operations import given_to_host
from deploy.lab.classes.vm_lifecycle import check_operation, is_live
from deploy.lab.classes.vm_migrate import move
from deploy.lab.classes.vm_power import refresh_devices, tell
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import call_within, forward, pause
from deploy.lab.operations import operation
from deploy.lab.placement import check_can_boot
from deploy.lab.storage import used_bytes

MOST_STORAGE_MIGRATES = 3
DESTINATION = ("host", "SM", "xenops", "session_id", "master")
"""What host.migrate_receive answers and VM.migrate_send needs."""
CARRIED = (
    "name_label",
    "name_description",
    "type",
    "sharable",
    "read_only",
    "other_config",
    "xenstore_data",
    "tags",
)


@message("VM.assert_can_migrate")
def assert_can_migrate(
    call: Call,
    vm: Row,
    dest: dict[str, str],
    live: bool,
    vdi_map: dict[str, str],
    vif_map: dict[str, str],
    options: dict[str, str],
    vgpu_map: dict[str, str],
) -> None:
    _check(call, vm, dest, vdi_map, vif_map)


@message("VM.migrate_send")
async def migrate_send(
    call: Call,
    vm: Row,
    dest: dict[str, str],
    live: bool,
    vdi_map: dict[str, str],
    vif_map: dict[str, str],
    options: dict[str, str],
    vgpu_map: dict[str, str],
    vdi_format_map: dict[str, str],
) -> str:
    async with operation(call, vm, "migrate_send", check_operation):
        target = _check(call, vm, dest, vdi_map, vif_map)
        if is_live(vm):
            call.lab.backend.check_storage_motion(vm)
            await _send_running(call, vm, target, vdi_map)
        else:
            await _send_halted(call, vm, vdi_map)
    refresh_devices(call, vm)
    return vm.ref


@message("VDI.pool_migrate")
async def pool_migrate_disk(call: Call, vdi: Row, sr: str, options: dict[str, str]) -> str:
    """Move one disk of a VM to another SR, the VM running or not; answers the disk it has then.

    Raises VDI_NEEDS_VM_FOR_MIGRATE [vdi] for a disk of no VM, and what VM.migrate_send does.
    """
    vbds = call.db.rows("VBD", vdi.VBDs)
    if not vbds:
        raise XapiError("VDI_NEEDS_VM_FOR_MIGRATE", vdi.ref)
    vm = call.db.get("VM", vbds[0].VM)
    async with (
        operation(call, vm, "migrate_send", check_operation),
        operation(call, vdi, "mirror", vdi_operations.check_operation),
    ):
        if vdi.type == "cbt_metadata":
            raise XapiError("VDI_INCOMPATIBLE_TYPE", vdi.ref, vdi.type)
        host = call.db.find("host", vm.resident_on) or call.lab.coordinator.host
        seen = {pbd.SR for pbd in call.db.rows("PBD", host.PBDs) if pbd.currently_attached}
        _check_disk(call, vdi, {vdi.ref: sr}, seen)
        if is_live(vm):
            call.lab.backend.check_storage_motion(vm)
            await _send_running(call, vm, host, {vdi.ref: sr})
        else:
            await _send_halted(call, vm, {vdi.ref: sr})
    refresh_devices(call, vm)
    moved: str = vbds[0].VDI
    return moved


# --- checks


def _check(
    call: Call, vm: Row, dest: dict[str, str], vdi_map: dict[str, str], vif_map: dict[str, str]
) -> Row:
    """The host to move to. Raises, in the daemon's order, what speaks against it."""
    for key in DESTINATION:
        if key not in dest:
            raise XapiError("INTERNAL_ERROR", "Not_found")
    target = call.db.find("host", dest["host"])
    if target is None:
        raise XapiError("NOT_IMPLEMENTED", "VM.migrate_send to another pool")
    seen = {pbd.SR for pbd in call.db.rows("PBD", target.PBDs) if pbd.currently_attached}
    for vdi in _disks(call, vm):
        _check_disk(call, vdi, vdi_map, seen)
    check_can_boot(call.lab, vm, target.ref, storage=False)
    if vif_map:
        text = "VIF mapping is not supported for intra-pool migration"
        raise XapiError("OPERATION_NOT_ALLOWED", text)
    return target


def _disks(call: Call, vm: Row) -> list[Row]:
    filled = [vbd.VDI for vbd in call.db.rows("VBD", vm.VBDs) if vbd.type == "Disk"]
    return call.db.rows("VDI", filled)


def _check_disk(call: Call, vdi: Row, vdi_map: dict[str, str], seen: set[str]) -> None:
    wanted = vdi_map.get(vdi.ref, vdi.SR)
    if wanted not in seen:
        if vdi.ref not in vdi_map:
            raise XapiError("VDI_NOT_IN_MAP", vdi.ref)
        call.db.get("SR", wanted)
        raise XapiError("SR_HAS_NO_PBDS", wanted)
    if wanted == vdi.SR:
        return
    if vdi.cbt_enabled:
        raise XapiError("VDI_CBT_ENABLED", vdi.ref)
    for ref in (vdi.SR, wanted):
        if call.db.get("SR", ref).type in ("iso", "udev"):
            raise XapiError("SR_DOES_NOT_SUPPORT_MIGRATION", ref)


# --- moving


async def _send_running(call: Call, vm: Row, target: Row, vdi_map: dict[str, str]) -> None:
    source = call.db.get("host", vm.resident_on)

    def choose() -> Row:
        check_can_boot(call.lab, vm, target.ref, storage=False)
        return target

    async with given_to_host(call, vm, choose, "vm_migrate"):
        machine = await forward(call, source.ref)
        async with _mirrored(call, vm, vdi_map) as mirrors:
            await move(
                call,
                vm,
                machine,
                call.lab.machine(target.ref),
                lambda: _switch(call, vm, mirrors),
            )
    tell(
        call,
        vm,
        "VM_MIGRATED",
        f"migrated from host '{source.name_label}' (uuid: {source.uuid}) "
        f"to host '{target.name_label}' (uuid: {target.uuid})",
    )


async def _send_halted(call: Call, vm: Row, vdi_map: dict[str, str]) -> None:
    async with _mirrored(call, vm, vdi_map) as mirrors:
        _switch(call, vm, mirrors)


@asynccontextmanager
async def _mirrored(
    call: Call, vm: Row, vdi_map: dict[str, str]
) -> AsyncIterator[list[tuple[Row, Row]]]:
    """Copies of the disks that change their SR. Afterwards the originals go, or the copies do.

    Raises TOO_MANY_STORAGE_MIGRATES ["3"] when the host moves three VMs' disks already.
    """
    moving = [v for v in _disks(call, vm) if vdi_map.get(v.ref, v.SR) != v.SR]
    machine = call.lab.machines.get(vm.resident_on, call.lab.coordinator)
    if moving and machine.storage_migrations >= MOST_STORAGE_MIGRATES:
        raise XapiError("TOO_MANY_STORAGE_MIGRATES", str(MOST_STORAGE_MIGRATES))
    machine.storage_migrations += bool(moving)
    mirrors: list[tuple[Row, Row]] = []
    try:
        for vdi in moving:
            mirrors.append((vdi, await _mirror(call, vdi, vdi_map[vdi.ref])))
        yield mirrors
    except BaseException:
        await _destroy(call, [copy for _, copy in mirrors])
        raise
    else:
        await _destroy(call, [original for original, _ in mirrors])
    finally:
        machine.storage_migrations -= bool(moving)


async def _mirror(call: Call, vdi: Row, sr: str) -> Row:
    """A disk on the other SR that is to become what `vdi` is."""
    record: dict[str, Any] = {name: vdi.fields[name] for name in CARRIED}
    record |= {"SR": sr, "virtual_size": str(vdi.virtual_size), "sm_config": {}}
    copy = call.db.get("VDI", await call_within(call, "VDI.create", record))
    times = call.lab.storage.times
    try:
        await pause(call, times.copy + used_bytes(call.lab, vdi) / times.copy_rate)
    except XapiError:
        await _destroy(call, [copy])
        raise
    return copy


def _switch(call: Call, vm: Row, mirrors: list[tuple[Row, Row]]) -> None:
    """The VM uses the copies from now on."""
    copies = {vdi.ref: copy for vdi, copy in mirrors}
    for vbd in call.db.rows("VBD", vm.VBDs):
        copy = copies.get(vbd.VDI)
        if copy is not None:
            call.lab.storage.copy_contents(call.db.get("VDI", vbd.VDI), copy)
            call.db.update(vbd, VDI=copy.ref)


async def _destroy(call: Call, disks: list[Row]) -> None:
    for vdi in disks:
        in_use = any(vbd.currently_attached for vbd in call.db.rows("VBD", vdi.VBDs))
        if call.db.find("VDI", vdi.ref) is not None and not in_use:
            await call_within(call, "VDI.destroy", vdi.ref)
