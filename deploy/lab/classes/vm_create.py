"""Making and removing VM records.

Facts: FACTS 3, XAPI.md 2.2; recorded: vm_create_full, vm_create_fields, vm_create_bad_values.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from deploy.lab.classes.vm_lifecycle import check_operation
from deploy.lab.classes.vm_memory import memory_overhead, update_overhead
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.generic import constructor_values
from deploy.lab.operations import operation, refresh

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

VENDOR_DEVICE_PLATFORM = 2
HVM_BOOT_POLICY = "BIOS order"

_ONLY_OF_SUSPENDED = (
    "suspend_VDI",
    "memory_target",
    "last_boot_CPU_flags",
    "last_booted_record",
)
_IGNORED = (
    "blocked_operations",
    "ha_always_run",
    "protection_policy",
    "is_snapshot_from_vmpp",
    "snapshot_schedule",
    "is_vmss_snapshot",
)
"""Members of a VM.create record that the daemon takes and forgets."""


@message("VM.create")
def create(call: Call, record: dict[str, Any]) -> str:
    values = constructor_values(call.message, record)
    suspended = values.get("power_state") == "Suspended"
    values["power_state"] = "Suspended" if suspended else "Halted"
    for name in _IGNORED if suspended else (*_IGNORED, *_ONLY_OF_SUSPENDED):
        values.pop(name, None)
    if values.get("has_vendor_device", True):
        given = values.get("hardware_platform_version", 0)
        values["hardware_platform_version"] = max(given, VENDOR_DEVICE_PLATFORM)
    if values.get("domain_type", "unspecified") == "unspecified":
        values["domain_type"] = domain_type_of(values["HVM_boot_policy"])
    if "mac_seed" not in values["other_config"]:
        values["other_config"] = {"mac_seed": str(uuid.uuid4()), **values["other_config"]}
    return make(call.lab, **values).ref


def make(lab: Lab, **values: Any) -> Row:
    """A VM with metrics of its own, nowhere and without a domain."""
    metrics = lab.db.create("VM_metrics", **FRESH_METRICS)
    vm = lab.db.create("VM", metrics=metrics.ref, domid=-1, **values)
    lab.db.update(vm, memory_overhead=memory_overhead(vm))
    refresh(lab, vm)
    return vm


FRESH_METRICS: dict[str, Any] = {"VCPUs_utilisation": {0: 0.0}}


def domain_type_of(boot_policy: str) -> str:
    return "hvm" if boot_policy else "pv"


def boot_policy_of(domain_type: str) -> str:
    return HVM_BOOT_POLICY if domain_type == "hvm" else ""


@message("VM.destroy")
async def destroy(call: Call, vm: Row) -> None:
    """Remove the record and all that only it has; the disks stay."""
    async with operation(call, vm, "destroy", check_operation):
        if vm.other_config.get("default_template") == "true":
            raise XapiError("VM_CANNOT_DELETE_DEFAULT_TEMPLATE", vm.ref)
        remove(call, vm)


def remove(call: Call, vm: Row) -> None:
    db = call.db
    call.lab.sleeping.pop(vm.uuid, None)
    for child in db.rows("VM", vm.children):
        db.update(child, parent=vm.parent)
    for cls, refs in (("VBD", vm.VBDs), ("VIF", vm.VIFs)):
        for device in db.rows(cls, refs):
            remove_device(call, device)
    for cls, refs in (("VGPU", vm.VGPUs), ("VUSB", vm.VUSBs), ("VTPM", vm.VTPMs)):
        for device in db.rows(cls, refs):
            db.delete(device)
    for console in db.rows("console", vm.consoles):
        db.delete(console)
    for cls, ref in (("VM_metrics", vm.metrics), ("VM_guest_metrics", vm.guest_metrics)):
        row = db.find(cls, ref)
        if row is not None:
            db.delete(row)
    db.delete(vm)


def remove_device(call: Call, device: Row) -> None:
    """Delete a VBD or VIF with its metrics; what it led to recomputes what it allows."""
    metrics = call.db.find(f"{device.cls}_metrics", device.metrics)
    if metrics is not None:
        call.db.delete(metrics)
    vdi = call.db.find("VDI", device.VDI) if device.cls == "VBD" else None
    call.db.delete(device)
    if vdi is not None:
        refresh(call.lab, vdi)


# --- what kind of machine it is


@message("VM.set_domain_type")
def set_domain_type(call: Call, vm: Row, value: str) -> None:
    call.db.update(vm, domain_type=value, HVM_boot_policy=boot_policy_of(value))
    update_overhead(call, vm)


@message("VM.set_HVM_boot_policy")
def set_hvm_boot_policy(call: Call, vm: Row, value: str) -> None:
    call.db.update(vm, HVM_boot_policy=value, domain_type=domain_type_of(value))
    update_overhead(call, vm)


@message("VM.set_has_vendor_device")
def set_has_vendor_device(call: Call, vm: Row, value: bool) -> None:
    if vm.power_state != "Halted" and not vm.is_a_template:
        raise XapiError("VM_BAD_POWER_STATE", vm.ref, "halted", vm.power_state.lower())
    version = vm.hardware_platform_version
    if value:
        version = max(version, VENDOR_DEVICE_PLATFORM)
    call.db.update(vm, has_vendor_device=value, hardware_platform_version=version)


@message("VM.set_is_a_template")
def set_is_a_template(call: Call, vm: Row, value: bool) -> None:
    if value:
        check_operation(call.lab, vm, "make_into_template", strict=True)
    else:
        metrics = call.db.find("VM_metrics", vm.metrics)
        if metrics is not None:
            call.db.update(metrics, install_time=call.lab.clock.date())
    call.db.update(vm, is_a_template=value)
    refresh(call.lab, vm)


@message("VM.set_is_default_template")
def set_is_default_template(call: Call, vm: Row, value: bool) -> None:
    others = {key: v for key, v in vm.other_config.items() if key != "default_template"}
    if value:
        others["default_template"] = "true"
    call.db.update(vm, is_default_template=value, other_config=others)
    refresh(call.lab, vm)
