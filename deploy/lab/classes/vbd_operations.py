"""What may be done to a VBD now, and the rule of who may share a disk.

Facts: FACTS 7, xen-api xapi_vbd_helpers.ml; recorded: vbd_plug_states, vdi_in_use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.operations import allowed_operations

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

OPERATIONS = ("attach", "eject", "unplug", "unplug_force", "insert", "plug", "pause", "unpause")
PLUGGING = frozenset(("plug", "unplug", "unplug_force"))
_PAUSES = frozenset(("pause", "unpause"))
_TAKING = frozenset(("attach", "insert", "plug"))
_VM_OPERATIONS_IN_THE_WAY = ("clean_shutdown", "hard_shutdown", "suspend", "pause")


def check_operation(lab: Lab, vbd: Row, name: str, *, sharing: bool = True) -> None:
    """Raise what forbids the operation on the VBD now.

    `sharing` also asks whether other VMs have the disk; allowed_operations does not.
    """
    for forbids in (_current_operations, _kind, _power_state, _vm_operations, _guest, _medium):
        error = forbids(lab, vbd, name)
        if error is not None:
            raise error
    if not vbd.empty:
        _check_disk(lab, vbd, name, sharing=sharing)


def check_attachable(lab: Lab, vm: Row, vbd: Row) -> None:
    """Raise what keeps the VBD from being attached when its VM starts.

    VDI_IN_USE [vdi] when the disk is not sharable and others have it, VDI_READONLY [vdi],
    OTHER_OPERATION_IN_PROGRESS while something is done to the VBD or its disk.
    """
    check_operation(lab, vbd, "attach")


@allowed_operations("VBD")
def allowed(lab: Lab, vbd: Row) -> list[str]:
    return [name for name in OPERATIONS if _is_valid(lab, vbd, name)]


def _is_valid(lab: Lab, vbd: Row, name: str) -> bool:
    try:
        check_operation(lab, vbd, name, sharing=False)
    except XapiError:
        return False
    return True


def _current_operations(lab: Lab, vbd: Row, name: str) -> XapiError | None:
    current = set(vbd.current_operations.values())
    if not current:
        return None
    forbidden = (
        name not in _PAUSES
        or (name == "pause" and not current <= _PAUSES)
        or (name == "unpause" and not current <= _PAUSES | {"attach"})
    )
    if not forbidden:
        return None
    first = next(iter(vbd.current_operations.values()))
    return XapiError("OTHER_OPERATION_IN_PROGRESS", "VBD", vbd.ref, first)


def _kind(lab: Lab, vbd: Row, name: str) -> XapiError | None:
    if not vbd.unpluggable and name in ("unplug", "unplug_force"):
        return XapiError("VBD_NOT_UNPLUGGABLE", vbd.ref)
    if name in ("insert", "eject") and vbd.type != "CD":
        return XapiError("VBD_NOT_REMOVABLE_MEDIA", vbd.ref)
    if name == "eject" and vbd.empty:
        return XapiError("VBD_IS_EMPTY", vbd.ref)
    if name == "insert" and not vbd.empty:
        return XapiError("VBD_NOT_EMPTY", vbd.ref)
    return None


def _power_state(lab: Lab, vbd: Row, name: str) -> XapiError | None:
    vm = lab.db.get("VM", vbd.VM)
    if vm.power_state == "Running":
        plugged = vbd.currently_attached or vbd.reserved
        if name == "plug" and plugged:
            return XapiError("DEVICE_ALREADY_ATTACHED", vbd.ref)
        if name in ("unplug", "unplug_force") and not plugged:
            return XapiError("DEVICE_ALREADY_DETACHED", vbd.ref)
        return None
    if name in PLUGGING or (name in _PAUSES and vm.power_state != "Paused"):
        return XapiError("VM_BAD_POWER_STATE", vm.ref, "running", vm.power_state.lower())
    return None


def _vm_operations(lab: Lab, vbd: Row, name: str) -> XapiError | None:
    if name not in ("plug", "unplug"):
        return None
    vm = lab.db.get("VM", vbd.VM)
    for current in vm.current_operations.values():
        if current in _VM_OPERATIONS_IN_THE_WAY:
            text = f"Current operation on VM:{vm.ref} is {current}"
            return XapiError("OPERATION_NOT_ALLOWED", text)
    return None


def _guest(lab: Lab, vbd: Row, name: str) -> XapiError | None:
    """Hot plug of an HVM guest needs paravirtual drivers, unless the guest says otherwise."""
    vm = lab.db.get("VM", vbd.VM)
    if name not in PLUGGING or vm.power_state != "Running" or not is_hvm(lab, vm):
        return None
    guest = lab.db.find("VM_guest_metrics", vm.guest_metrics)
    says = guest.can_use_hotplug_vbd if guest is not None else "unspecified"
    if says == "no":
        return XapiError("OPERATION_NOT_ALLOWED", "VM states it does not support VBD hotplug.")
    drivers = guest is not None and (guest.PV_drivers_detected or guest.PV_drivers_version)
    if says == "unspecified" and not drivers:
        return XapiError("VM_MISSING_PV_DRIVERS", vm.ref)
    if vbd.type == "CD":
        return XapiError(
            "OPERATION_NOT_ALLOWED",
            "HVM CDROMs cannot be hotplugged/unplugged, only inserted or ejected",
        )
    return None


def is_hvm(lab: Lab, vm: Row) -> bool:
    """Whether the VM runs (or would run) with firmware and emulated devices."""
    metrics = lab.db.find("VM_metrics", vm.metrics)
    if metrics is not None and metrics.current_domain_type != "unspecified":
        return bool(metrics.current_domain_type == "hvm")
    if vm.domain_type != "unspecified":
        return bool(vm.domain_type == "hvm")
    return bool(vm.HVM_boot_policy)


def _medium(lab: Lab, vbd: Row, name: str) -> XapiError | None:
    if vbd.type != "CD" or name not in ("insert", "eject"):
        return None
    vm = lab.db.get("VM", vbd.VM)
    if vm.power_state != "Suspended":
        return None
    return XapiError("VM_BAD_POWER_STATE", vm.ref, "halted, running", "suspended")


def _check_disk(lab: Lab, vbd: Row, name: str, *, sharing: bool) -> None:
    vdi = lab.db.find("VDI", vbd.VDI)
    if vdi is None:
        return
    if not vdi.managed:
        raise XapiError("VDI_NOT_MANAGED", vbd.ref)
    if name not in _TAKING:
        return
    busy = [op for op in vdi.current_operations.values() if op not in ("mirror", "copy")]
    if busy:
        first = next(iter(vdi.current_operations.values()))
        raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi.ref, first)
    if sharing and not vbd.currently_attached:
        check_sharing(lab, vbd, vdi)


def check_sharing(lab: Lab, vbd: Row, vdi: Row) -> None:
    """Raise VDI_IN_USE [vdi] or VDI_READONLY [vdi] when the VBD may not have the disk now.

    Many may read a disk; one that writes has to be alone, unless the disk is sharable. Disks of
    suspended VMs count as free.
    """
    writes = vbd.mode == "RW"
    vm = lab.db.get("VM", vbd.VM)
    exempt = vdi.sharable or is_system_domain(vm)
    if not exempt and any(writes or o.mode == "RW" for o in _other_users(lab, vbd, vdi)):
        raise XapiError("VDI_IN_USE", vdi.ref)
    if writes and vdi.read_only:
        raise XapiError("VDI_READONLY", vdi.ref)


def _other_users(lab: Lab, vbd: Row, vdi: Row) -> Iterator[Row]:
    for other in lab.db.rows("VBD", vdi.VBDs):
        active = other.currently_attached or other.reserved or other.current_operations
        if other is vbd or not active:
            continue
        vm = lab.db.find("VM", other.VM)
        if vm is not None and vm.power_state != "Suspended" and not is_system_domain(vm):
            yield other


def is_system_domain(vm: Row) -> bool:
    return bool(vm.is_control_domain or vm.other_config.get("is_system_domain") == "true")
