"""Making a VM after another: clone, copy, and the common part of snapshots.

Facts: xapi_vm_clone.ml of xen-api; recorded: clone_copy_provision, snapshot_revert.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from deploy.lab.classes import vif as vifs
from deploy.lab.classes.vm_create import FRESH_METRICS
from deploy.lab.classes.vm_lifecycle import check_operation
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message, within
from deploy.lab.errors import XapiError
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL

OWNER = "owner"
NOT_INHERITED = ("default_template", "xensource_internal")

DiskOperation = Callable[[Row], Awaitable[str]]
"""Makes the new disk for one of the source's, answers its reference."""


def _names(text: str) -> list[str]:
    return text.split()


_KEPT = """
    name_description user_version is_a_template affinity memory_overhead memory_target
    memory_static_max memory_dynamic_max memory_dynamic_min memory_static_min VCPUs_max
    VCPUs_at_startup VCPUs_params actions_after_softreboot actions_after_shutdown
    actions_after_reboot actions_after_crash HVM_boot_policy HVM_boot_params HVM_shadow_multiplier
    platform PV_kernel PV_ramdisk PV_args PV_bootloader PV_bootloader_args PV_legacy_args PCI_bus
    last_boot_CPU_flags last_booted_record recommendations xenstore_data ha_restart_priority tags
    bios_strings hardware_platform_version has_vendor_device reference_label domain_type NVRAM
"""
INHERITED = _names(_KEPT)

_VBD_INHERITED = _names(
    "device userdevice bootable mode type unpluggable empty other_config qos_algorithm_type "
    "qos_algorithm_params"
)
_VIF_INHERITED = _names(
    "device network MAC MTU other_config qos_algorithm_type qos_algorithm_params locking_mode "
    "ipv4_allowed ipv6_allowed ipv4_configuration_mode ipv4_addresses ipv4_gateway "
    "ipv6_configuration_mode ipv6_addresses ipv6_gateway"
)


def clone_disk(call: Call) -> DiskOperation:
    """A clone that is nobody's snapshot (recorded: snapshot_revert), unlike a plain VDI.clone."""

    async def clone(vdi: Row) -> str:
        ref: str = await within(call, "VDI.clone", vdi.ref, {})
        call.db.update(call.db.get("VDI", ref), snapshot_of=NULL)
        return ref

    return clone


def copy_disk(call: Call, sr: str) -> DiskOperation:
    """Copy to the SR, or beside the original when there is no such SR."""
    known = call.db.find("SR", sr) is not None
    return lambda vdi: within(call, "VDI.copy", vdi.ref, sr if known else vdi.SR, NULL, NULL)


def snapshot_disk(call: Call) -> DiskOperation:
    return lambda vdi: within(call, "VDI.snapshot", vdi.ref, {})


@message("VM.clone")
async def clone(call: Call, vm: Row, name: str) -> str:
    async with operation(call, vm, "clone", check_operation):
        return (await duplicate(call, vm, name, clone_disk(call), state_of_clone(vm))).ref


@message("VM.copy")
async def copy(call: Call, vm: Row, name: str, sr: str) -> str:
    async with operation(call, vm, "copy", check_operation):
        return (await duplicate(call, vm, name, copy_disk(call, sr), state_of_clone(vm))).ref


@message("VM.csvm")
async def csvm(call: Call, vm: Row) -> str:
    """A second VM from the memory image and the disks of a suspended one."""
    call.db.get("VDI", vm.suspend_VDI)
    async with operation(call, vm, "csvm", check_operation):
        return (
            await duplicate(
                call, vm, f"{vm.name_label}-cloned-suspended", clone_disk(call), "Suspended"
            )
        ).ref


def state_of_clone(vm: Row) -> str:
    return "Suspended" if vm.power_state == "Suspended" else "Halted"


async def duplicate(
    call: Call,
    vm: Row,
    name: str,
    disk_operation: DiskOperation,
    power_state: str,
    snapshot: Mapping[str, Any] | None = None,
    *,
    ignoring: Sequence[str] = (),
) -> Row:
    """A VM like `vm` in `power_state`, with disks of its own and, unless a snapshot, new MACs.

    `snapshot`: the fields that make it a snapshot; None for a clone. Disks in `ignoring` stay
    out. Nothing is left behind when a disk cannot be made.
    """
    vbds = [vbd for vbd in call.db.rows("VBD", vm.VBDs) if vbd.VDI not in ignoring]
    disks = await duplicate_disks(call, vbds, disk_operation)
    try:
        image = NULL
        if power_state == "Suspended" and call.db.find("VDI", vm.suspend_VDI) is not None:
            image = await disk_operation(call.db.get("VDI", vm.suspend_VDI))
            disks.append((vm, image))
        new = _record(call, vm, name, power_state, image, snapshot or {})
    except XapiError:
        await _destroy_disks(call, disks)
        raise
    for source, vdi in disks:
        if source.cls == "VBD":
            copy_vbd(call, source, new, vdi)
    for vif in call.db.rows("VIF", vm.VIFs):
        copy_vif(call, vif, new, keep_mac=snapshot is not None)
    refresh(call.lab, new)
    return new


async def duplicate_disks(
    call: Call, vbds: list[Row], disk_operation: DiskOperation
) -> list[tuple[Row, str]]:
    """Each VBD and the VDI that its copy shall have: a new one, the same for a CD."""
    made: list[tuple[Row, str]] = []
    try:
        for vbd in vbds:
            vdi = call.db.find("VDI", vbd.VDI)
            if vbd.empty or vdi is None:
                made.append((vbd, NULL))
            elif vbd.type == "CD":
                made.append((vbd, vdi.ref))
            else:
                call.check_cancelled()
                made.append((vbd, await disk_operation(vdi)))
    except XapiError:
        await _destroy_disks(call, made)
        raise
    return made


async def _destroy_disks(call: Call, made: list[tuple[Row, str]]) -> None:
    for source, vdi in made:
        if vdi != NULL and (source.cls != "VBD" or source.type != "CD"):
            with suppress(XapiError):
                await within(call, "VDI.destroy", vdi)


def _record(
    call: Call, vm: Row, name: str, power_state: str, image: str, snapshot: Mapping[str, Any]
) -> Row:
    values = {field: vm.fields[field] for field in INHERITED}
    values |= {
        "name_label": name,
        "power_state": power_state,
        "other_config": _other_config(vm, keep_seed=bool(snapshot)),
        "generation_id": _generation(call, vm),
        "suspend_VDI": image,
        "domid": -1,
        **snapshot,
    }
    values["metrics"] = copy_metrics(call, vm)
    values["guest_metrics"] = copy_row(call, "VM_guest_metrics", vm.guest_metrics)
    return call.db.create("VM", **values)


def _other_config(vm: Row, *, keep_seed: bool) -> dict[str, str]:
    others = {k: v for k, v in vm.other_config.items() if k not in NOT_INHERITED}
    if not keep_seed:
        others["mac_seed"] = str(uuid.uuid4())
    if vm.is_a_template:
        others.setdefault("base_template_name", vm.name_label)
    return others


def _generation(call: Call, vm: Row) -> str:
    if not vm.generation_id:
        return ""
    return f"{call.lab.random.getrandbits(63)}:{call.lab.random.getrandbits(63)}"


def copy_metrics(call: Call, vm: Row) -> str:
    return (
        copy_row(call, "VM_metrics", vm.metrics)
        if call.db.find("VM_metrics", vm.metrics) is not None
        else call.db.create("VM_metrics", **FRESH_METRICS).ref
    )


def copy_row(call: Call, cls: str, ref: str) -> str:
    """A second row with the same fields and a uuid of its own; null when there is none."""
    row = call.db.find(cls, ref)
    if row is None:
        return NULL
    return call.db.create(cls, **{**row.fields, "uuid": ""}).ref


def copy_vbd(call: Call, vbd: Row, vm: Row, vdi: str) -> Row:
    """The VBD's copy belongs to `vm`, which then owns the disk."""
    values = {field: vbd.fields[field] for field in _VBD_INHERITED}
    if vbd.type == "Disk":
        values["other_config"] = {OWNER: "", **vbd.other_config}
    metrics = call.db.create("VBD_metrics")
    copied = call.db.create("VBD", VM=vm.ref, VDI=vdi, metrics=metrics.ref, **values)
    refresh(call.lab, copied)
    disk = call.db.find("VDI", vdi)
    if disk is not None:
        refresh(call.lab, disk)
    return copied


def copy_vif(call: Call, vif: Row, vm: Row, *, keep_mac: bool) -> Row:
    values = {field: vif.fields[field] for field in _VIF_INHERITED}
    if not keep_mac:
        values["MAC"] = ""
    return vifs.make(call, VM=vm.ref, **values)
