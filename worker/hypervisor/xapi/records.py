"""XAPI's records → ours. Field names and types are those of the XAPI datamodel.

Works on records of both protocols: integers may be numbers or text, dates text or DateTime objects.
References become UUIDs through a `Resolver`, which says None for what it does not know (yet).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from worker.hypervisor.port import (
    MARKER_PREFIX,
    CurrentOperation,
    GuestMetrics,
    HostRecord,
    LockingMode,
    Marker,
    MessageRecord,
    NetworkRecord,
    PbdRecord,
    PifRecord,
    PoolRecord,
    PowerState,
    SrRecord,
    TaskHandle,
    TaskRecord,
    TaskStatus,
    VbdRecord,
    VdiRecord,
    VifRecord,
    VmRecord,
)
from worker.hypervisor.xapi.errors import translate_error_info

NULL: Final = "OpaqueRef:NULL"
REF_PREFIX: Final = "OpaqueRef:"
VM_DATA: Final = "vm-data/"

Raw: TypeAlias = Mapping[str, Any]
Resolver: TypeAlias = Callable[[str, str], UUID | None]
"""(class, reference) → UUID, or None for the null reference and for what is not known."""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "pool": ("uuid", "name_label", "master", "default_SR", "ha_enabled"),
    "host": (
        "uuid", "name_label", "address", "enabled", "memory_overhead", "cpu_info",
        "software_version", "API_version_major", "API_version_minor", "resident_VMs",
        "control_domain", "metrics", "current_operations",
    ),
    "host_metrics": ("uuid", "live", "memory_total", "memory_free", "last_updated"),
    "sr": (
        "uuid", "name_label", "type", "content_type", "shared", "physical_size",
        "physical_utilisation", "virtual_allocation",
    ),
    "pbd": ("uuid", "host", "SR", "currently_attached"),
    "vdi": (
        "uuid", "name_label", "SR", "virtual_size", "physical_utilisation", "type", "managed",
        "missing", "read_only", "is_a_snapshot", "on_boot", "other_config", "sm_config",
    ),
    "vm": (
        "uuid", "name_label", "power_state", "resident_on", "scheduled_to_be_resident_on",
        "is_a_template", "is_a_snapshot", "is_control_domain", "memory_static_max",
        "memory_overhead", "VCPUs_max", "domid", "other_config", "xenstore_data",
        "current_operations", "allowed_operations", "metrics", "guest_metrics",
    ),
    "vm_metrics": ("uuid", "start_time"),
    "vm_guest_metrics": (
        "uuid", "PV_drivers_detected", "networks", "os_version", "services", "other",
        "last_updated",
    ),
    "vbd": (
        "uuid", "VM", "VDI", "userdevice", "mode", "type", "bootable", "empty",
        "currently_attached",
    ),
    "vif": (
        "uuid", "VM", "network", "device", "MAC", "locking_mode", "ipv4_allowed", "ipv6_allowed",
        "currently_attached",
    ),
    "network": ("uuid", "name_label", "bridge", "MTU", "default_locking_mode", "other_config"),
    "pif": (
        "uuid", "host", "network", "device", "VLAN", "physical", "management",
        "currently_attached",
    ),
    "task": (
        "uuid", "name_label", "status", "progress", "created", "finished", "result", "error_info",
        "other_config",
    ),
    "message": ("uuid", "name", "priority", "cls", "obj_uuid", "timestamp", "body"),
}  # fmt: skip
"""What is read of each class (lower case, as events name them)."""


def trimmed(kind: str, raw: Raw) -> dict[str, Any]:
    """Only the fields that matter here: a tenth of a VM's record, and less to compare."""
    return {field: raw[field] for field in FIELDS[kind] if field in raw}


# ---------------------------------------------------------------------------------------------- values


def is_null(ref: object) -> bool:
    return ref in ("", NULL, None)


def task_handle(ref: str) -> TaskHandle:
    return TaskHandle(ref.removeprefix(REF_PREFIX))


def task_ref(handle: TaskHandle) -> str:
    return handle if handle.startswith("DummyRef:") else f"{REF_PREFIX}{handle}"


def moment(value: object) -> datetime | None:
    """ "20261123T16:56:12Z" → datetime; the epoch stands for never. Fractions are dropped."""
    text = str(value)
    try:
        at = datetime.strptime(text[:17], "%Y%m%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return at if at.year > 1970 else None


def marker_of(raw: Raw) -> Marker:
    config = raw.get("other_config", {})
    return {key: value for key, value in config.items() if key.startswith(MARKER_PREFIX)}


def result_ref(result: str) -> str | None:
    """The reference in a task's result, "<value>OpaqueRef:…</value>", if it is one."""
    found = re.search(r"OpaqueRef:[0-9A-Za-z-]+", result)
    return found.group() if found and found.group() != NULL else None


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


# --------------------------------------------------------------------------------------------- records


def pool_record(raw: Raw, resolve: Resolver) -> PoolRecord:
    return PoolRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name_label"],
        master=resolve("host", raw["master"]),
        default_sr=resolve("sr", raw["default_SR"]),
        ha_enabled=bool(raw["ha_enabled"]),
    )


def host_record(raw: Raw, metrics: Raw, resolve: Resolver) -> HostRecord:
    residents = [ref for ref in raw["resident_VMs"] if ref != raw.get("control_domain")]
    return HostRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name_label"],
        address=raw["address"],
        enabled=bool(raw["enabled"]),
        live=bool(metrics.get("live", False)),
        memory_total_bytes=int(metrics.get("memory_total", 0)),
        memory_free_bytes=int(metrics.get("memory_free", 0)),
        memory_overhead_bytes=int(raw["memory_overhead"]),
        cpu_count=int(raw["cpu_info"].get("cpu_count", 0)),
        software_version=dict(raw["software_version"]),
        api_version=(int(raw["API_version_major"]), int(raw["API_version_minor"])),
        resident_vm_count=len(residents),
        heartbeat_at=moment(metrics.get("last_updated")),
        current_operations=frozenset(raw["current_operations"].values()),
    )


def sr_record(raw: Raw, resolve: Resolver) -> SrRecord:
    return SrRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name_label"],
        type=raw["type"],
        content_type=raw["content_type"],
        shared=bool(raw["shared"]),
        physical_size_bytes=int(raw["physical_size"]),
        physical_utilisation_bytes=int(raw["physical_utilisation"]),
        virtual_allocation_bytes=int(raw["virtual_allocation"]),
    )


def pbd_record(raw: Raw, resolve: Resolver) -> PbdRecord:
    return PbdRecord(
        uuid=UUID(raw["uuid"]),
        host=resolve("host", raw["host"]),
        sr=resolve("sr", raw["SR"]),
        currently_attached=bool(raw["currently_attached"]),
    )


LOCK_KEYS = frozenset({"paused", "activating"})


def vdi_record(raw: Raw, resolve: Resolver) -> VdiRecord:
    sm_config = raw["sm_config"]
    holders = [key.removeprefix("host_") for key in sm_config if key.startswith("host_")]
    locked_by = [resolve("host", ref) for ref in holders]
    return VdiRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name_label"],
        sr=resolve("sr", raw["SR"]),
        virtual_size_bytes=int(raw["virtual_size"]),
        physical_utilisation_bytes=int(raw["physical_utilisation"]),
        type=raw["type"],
        managed=bool(raw["managed"]),
        missing=bool(raw["missing"]),
        read_only=bool(raw["read_only"]),
        is_a_snapshot=bool(raw["is_a_snapshot"]),
        on_boot="reset" if raw["on_boot"] == "reset" else "persist",
        marker=marker_of(raw),
        locked_by=tuple(host for host in locked_by if host is not None),
        lock_keys=LOCK_KEYS.intersection(sm_config),
    )


def guest_metrics(raw: Raw) -> GuestMetrics:
    return GuestMetrics(
        pv_drivers_detected=bool(raw["PV_drivers_detected"]),
        networks=dict(raw["networks"]),
        os_version=dict(raw["os_version"]),
        services=dict(raw.get("services", {})),  # since 25.15
        other=dict(raw["other"]),
        last_updated=moment(raw["last_updated"]),
    )


def vm_record(raw: Raw, metrics: Raw, guest: Raw | None, resolve: Resolver) -> VmRecord:
    data = raw["xenstore_data"]
    operations = raw["current_operations"]
    return VmRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name_label"],
        power_state=cast(PowerState, raw["power_state"]),
        resident_on=resolve("host", raw["resident_on"]),
        scheduled_to_be_resident_on=resolve("host", raw["scheduled_to_be_resident_on"]),
        is_a_template=bool(raw["is_a_template"]),
        is_a_snapshot=bool(raw["is_a_snapshot"]),
        is_control_domain=bool(raw["is_control_domain"]),
        memory_bytes=int(raw["memory_static_max"]),
        memory_overhead_bytes=int(raw["memory_overhead"]),
        vcpus=int(raw["VCPUs_max"]),
        domid=int(raw["domid"]),
        marker=marker_of(raw),
        vm_data={k.removeprefix(VM_DATA): v for k, v in data.items() if k.startswith(VM_DATA)},
        current_operations=tuple(
            CurrentOperation(operation, task_handle(task)) for task, operation in operations.items()
        ),
        allowed_operations=frozenset(raw["allowed_operations"]),
        started_at=moment(metrics.get("start_time")) if raw["power_state"] != "Halted" else None,
        guest=guest_metrics(guest) if guest is not None else None,
    )


def vbd_record(raw: Raw, resolve: Resolver) -> VbdRecord:
    device = str(raw["userdevice"])
    return VbdRecord(
        uuid=UUID(raw["uuid"]),
        vm=resolve("vm", raw["VM"]),
        vdi=resolve("vdi", raw["VDI"]),
        device=int(device) if device.isdecimal() else -1,  # foreign VMs may name it "xvda"
        mode="RO" if raw["mode"] == "RO" else "RW",
        type=raw["type"],
        bootable=bool(raw["bootable"]),
        empty=bool(raw["empty"]),
        currently_attached=bool(raw["currently_attached"]),
    )


def vif_record(raw: Raw, resolve: Resolver) -> VifRecord:
    return VifRecord(
        uuid=UUID(raw["uuid"]),
        vm=resolve("vm", raw["VM"]),
        network=resolve("network", raw["network"]),
        device=int(raw["device"]),
        mac=str(raw["MAC"]).lower(),
        locking_mode=cast(LockingMode, raw["locking_mode"]),
        ipv4_allowed=tuple(sorted(raw["ipv4_allowed"])),
        ipv6_allowed=tuple(sorted(raw["ipv6_allowed"])),
        currently_attached=bool(raw["currently_attached"]),
    )


def network_record(raw: Raw, resolve: Resolver) -> NetworkRecord:
    return NetworkRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name_label"],
        bridge=raw["bridge"],
        mtu=int(raw["MTU"]),
        default_locking_mode=(
            "disabled" if raw["default_locking_mode"] == "disabled" else "unlocked"
        ),
        marker=marker_of(raw),
    )


def pif_record(raw: Raw, resolve: Resolver) -> PifRecord:
    return PifRecord(
        uuid=UUID(raw["uuid"]),
        host=resolve("host", raw["host"]),
        network=resolve("network", raw["network"]),
        device=raw["device"],
        vlan=int(raw["VLAN"]),
        physical=bool(raw["physical"]),
        management=bool(raw["management"]),
        currently_attached=bool(raw["currently_attached"]),
    )


def task_record(ref: str, raw: Raw, resolve: Resolver) -> TaskRecord:
    made = result_ref(str(raw["result"]))
    failed = raw["status"] == "failure" or (raw["status"] == "cancelled" and raw["error_info"])
    return TaskRecord(
        uuid=UUID(raw["uuid"]),
        handle=task_handle(ref),
        name=raw["name_label"],
        status=cast(TaskStatus, raw["status"]),
        progress=float(raw["progress"]),
        created=moment(raw["created"]),
        finished=moment(raw["finished"]),
        result=resolve("*", made) if made is not None else None,
        error=translate_error_info(raw["error_info"]) if failed else None,
        marker=marker_of(raw),
    )


def message_record(raw: Raw, resolve: Resolver) -> MessageRecord:
    return MessageRecord(
        uuid=UUID(raw["uuid"]),
        name=raw["name"],
        priority=int(raw["priority"]),
        about_class=raw["cls"],
        about=_uuid(raw["obj_uuid"]),
        at=moment(raw["timestamp"]),
        body=raw["body"],
    )
