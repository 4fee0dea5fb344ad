"""Records to make objects from, with the fields that XAPI insists on: for tests, benchmarks and
the demonstration. Numbers are decimal strings, which both protocols take.
"""

from __future__ import annotations

from typing import Any

MIB, GIB = 1 << 20, 1 << 30
NULL = "OpaqueRef:NULL"

_NO_QOS: dict[str, Any] = {
    "other_config": {},
    "qos_algorithm_type": "",
    "qos_algorithm_params": {},
}


def vm_record(
    name: str, *, memory: int = 256 * MIB, vcpus: int = 1, **fields: Any
) -> dict[str, Any]:
    """An HVM guest that boots from its first disk. `memory` in bytes."""
    sizes = ("static_min", "dynamic_min", "dynamic_max", "static_max")
    paravirtual = ("bootloader", "kernel", "ramdisk", "args", "bootloader_args", "legacy_args")
    return {
        "name_label": name,
        "name_description": "",
        "user_version": "1",
        "is_a_template": False,
        "affinity": NULL,
        **{f"memory_{size}": str(memory) for size in sizes},
        "VCPUs_params": {},
        "VCPUs_max": str(vcpus),
        "VCPUs_at_startup": str(vcpus),
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "destroy",
        **{f"PV_{part}": "" for part in paravirtual},
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"order": "c"},
        "platform": {"acpi": "1", "apic": "true", "pae": "true"},
        "PCI_bus": "",
        "other_config": {},
        "recommendations": "",
        **fields,
    }


def vdi_record(name: str, sr: str, *, size: int = GIB, **fields: Any) -> dict[str, Any]:
    """A disk of `size` bytes on the storage repository `sr` (a reference)."""
    return {
        "name_label": name,
        "name_description": "",
        "SR": sr,
        "virtual_size": str(size),
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
        **fields,
    }


def vbd_record(vm: str, vdi: str, *, device: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": str(device),
        "bootable": True,
        "mode": "RW",
        "type": "Disk",
        "unpluggable": True,
        "empty": False,
        **_NO_QOS,
        **fields,
    }


def vif_record(vm: str, network: str, *, device: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "VM": vm,
        "network": network,
        "device": str(device),
        "MAC": "",
        "MTU": "1500",
        **_NO_QOS,
        **fields,
    }
