"""Snapshots of VMs: with or without memory, and going back to them.

Facts: xapi_vm_snapshot.ml of xen-api; recorded: snapshot_revert, lifecycle_running.
"""

from __future__ import annotations

from typing import Any

from deploy.lab.classes import message as messages
from deploy.lab.classes.vm_clone import (
    DiskOperation,
    clone_disk,
    copy_metrics,
    copy_row,
    copy_vbd,
    copy_vif,
    duplicate,
    duplicate_disks,
    snapshot_disk,
)
from deploy.lab.classes.vm_create import make, remove_device
from deploy.lab.classes.vm_lifecycle import check_operation, is_live, reset_to
from deploy.lab.classes.vm_metadata import from_text, to_text
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message, within
from deploy.lab.errors import XapiError
from deploy.lab.forward import call_within
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL, SCHEMA

CRASH_CONSISTENT = "crash_consistent"

_KEPT = """
    uuid suspend_VDI power_state parent current_operations allowed_operations guest_metrics metrics
    resident_on domid protection_policy snapshot_schedule scheduled_to_be_resident_on snapshots
    children tags affinity consoles VBDs VIFs VGPUs VUSBs VTPMs attached_PCIs crash_dumps appliance
    groups
"""
_NOT_REVERTED = frozenset(_KEPT.split())
"""Fields that a VM keeps when it is reverted."""

PASSED_ON = ("SR_BACKEND_FAILURE_44", "SR_BACKEND_FAILURE_109", "VDI_INCOMPATIBLE_TYPE")
"""Errors of a revert that are not wrapped into VM_REVERT_FAILED."""


@message("VM.snapshot")
async def snapshot(call: Call, vm: Row, name: str, ignore_vdis: list[str]) -> str:
    async with operation(call, vm, "snapshot", check_operation):
        made = await take(call, vm, name, "Halted", vm.power_state, ignoring=ignore_vdis)
    body = f"VM '{vm.name_label}' (uuid: {vm.uuid}) snapshotted, snapshot name: {name}"
    messages.post(call.lab, "VM_SNAPSHOTTED", "VM", vm.uuid, body)
    return made.ref


async def take(
    call: Call,
    vm: Row,
    name: str,
    power_state: str,
    state_at_snapshot: str,
    *,
    ignoring: list[str] | None = None,
) -> Row:
    """A snapshot of `vm`; Suspended ones keep its memory image. VDIs of `ignoring` stay out."""
    fields: dict[str, Any] = {
        "is_a_template": True,
        "is_a_snapshot": True,
        "snapshot_of": vm.ref,
        "snapshot_time": call.lab.clock.date(),
        "snapshot_info": {
            "disk-snapshot-type": CRASH_CONSISTENT,
            "power-state-at-snapshot": state_at_snapshot,
        },
        "snapshot_metadata": to_text(vm),
        "parent": vm.parent,
    }
    made = await duplicate(
        call, vm, name, snapshot_disk(call), power_state, fields, ignoring=ignoring or []
    )
    call.db.update(vm, parent=made.ref)
    refresh(call.lab, made)
    return made


# --- revert


@message("VM.revert")
async def revert(call: Call, snap: Row) -> None:
    """Make the VM what it was; one that is gone comes back under its old uuid.

    Raises VM_REVERT_FAILED [snapshot, vm].
    """
    vm = call.db.find("VM", snap.snapshot_of)
    if vm is None:
        vm = _bring_back(call, snap)
    # The VM is held before it is stopped: nobody starts it until it is what it was.
    async with (
        operation(call, snap, "revert", check_operation),
        operation(call, vm, "reverting", check_operation),
    ):
        if is_live(vm):
            await call_within(call, "VM.hard_shutdown", vm.ref)
        await _revert(call, snap, vm)


def _bring_back(call: Call, snap: Row) -> Row:
    if not snap.is_a_snapshot:
        raise XapiError("VM_REVERT_FAILED", snap.ref, snap.snapshot_of)
    gone = snap.snapshot_of
    kept = from_text(snap.snapshot_metadata)
    fields = SCHEMA.classes["VM"].fields
    values = {
        name: value
        for name, value in kept.items()
        if name not in _NOT_REVERTED and name in fields and name not in ("metrics", "ha_always_run")
    }
    vm = make(call.lab, uuid=kept["uuid"], affinity=snap.affinity, tags=snap.tags, **values)
    for other in call.db.all("VM"):
        if other.snapshot_of == gone:
            call.db.update(other, snapshot_of=vm.ref)
    return vm


async def _revert(call: Call, snap: Row, vm: Row) -> None:
    try:
        _revert_fields(call, snap, vm)
        image = await _revert_disks(call, snap, vm)
    except XapiError as error:
        reset_to(call.lab, vm, "Halted")
        if error.code in PASSED_ON:
            raise
        raise XapiError("VM_REVERT_FAILED", snap.ref, vm.ref) from error
    for vif in call.db.rows("VIF", vm.VIFs):
        remove_device(call, vif)
    for vif in call.db.rows("VIF", snap.VIFs):
        copy_vif(call, vif, vm, keep_mac=True)
    _revert_metrics(call, snap, vm)
    call.db.update(vm, suspend_VDI=image, parent=snap.ref)
    reset_to(call.lab, vm, snap.power_state)


def _revert_fields(call: Call, snap: Row, vm: Row) -> None:
    kept = from_text(snap.snapshot_metadata)
    values = {name: value for name, value in kept.items() if name not in _NOT_REVERTED}
    call.db.update(vm, **values | {"ha_always_run": False})


async def _revert_disks(call: Call, snap: Row, vm: Row) -> str:
    """Replace the VM's disks by clones of the snapshot's; answers its new memory image."""
    db = call.db
    disk_operation: DiskOperation = clone_disk(call)
    snap_vbds = db.rows("VBD", snap.VBDs)
    snapped = db.rows("VDI", [vbd.VDI for vbd in snap_vbds])
    # As it is now: another VM that shares a disk may be reverted meanwhile.
    original_of = {vdi.ref: vdi.snapshot_of for vdi in snapped}
    originals = set(original_of.values())
    siblings = {original: _snapshots_of(call, original) for original in originals}
    replaced = []
    for vbd in db.rows("VBD", vm.VBDs):
        if vbd.type == "Disk" and vbd.VDI in originals:
            replaced.append(vbd.VDI)
        remove_device(call, vbd)
    for ref in [*replaced, vm.suspend_VDI]:
        if db.find("VDI", ref) is not None:
            await within(call, "VDI.destroy", ref)
    for vbd, ref in await duplicate_disks(call, snap_vbds, disk_operation):
        if vbd.type == "Disk" and ref != NULL:
            # Snapshots of the disk that is gone are now snapshots of the one that replaces it.
            for sibling in siblings[original_of[vbd.VDI]]:
                db.update(sibling, snapshot_of=ref)
        copy_vbd(call, vbd, vm, ref)
    image = db.find("VDI", snap.suspend_VDI)
    return NULL if image is None else await disk_operation(image)


def _snapshots_of(call: Call, original: str) -> list[Row]:
    """The snapshots of a disk that may itself be gone."""
    disk = call.db.find("VDI", original)
    if disk is not None:
        return call.db.rows("VDI", disk.snapshots)
    return [vdi for vdi in call.db.all("VDI") if vdi.snapshot_of == original]


def _revert_metrics(call: Call, snap: Row, vm: Row) -> None:
    for cls, ref in (("VM_metrics", vm.metrics), ("VM_guest_metrics", vm.guest_metrics)):
        row = call.db.find(cls, ref)
        if row is not None:
            call.db.delete(row)
    guest = copy_row(call, "VM_guest_metrics", snap.guest_metrics)
    call.db.update(vm, metrics=copy_metrics(call, snap), guest_metrics=guest)
