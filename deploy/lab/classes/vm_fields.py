"""Fields of VMs whose setters are more than a write, and what may be asked about devices.

Facts: FACTS 3 and 11, xapi_vm.ml of xen-api; recorded: lifecycle_*, map_set_fields, ha_settings.
"""

from __future__ import annotations

import re
from typing import Any

from deploy.lab.classes.vm_lifecycle import (
    RUNNING,
    SUSPENDED,
    assert_power_state,
    check_operation,
)
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.failover import check_plan
from deploy.lab.generic import add_to_map, remove_from_map
from deploy.lab.operations import refresh

RESTART = "restart"
PRIORITIES = (RESTART, "best-effort", "")
MOST_VBDS, MOST_VIFS = 255, 16
SETTABLE_BIOS_STRINGS = (
    "bios-vendor",
    "bios-version",
    "system-manufacturer",
    "system-product-name",
    "system-version",
    "system-serial-number",
    "baseboard-manufacturer",
    "baseboard-product-name",
    "baseboard-version",
    "baseboard-serial-number",
    "baseboard-asset-tag",
    "baseboard-location-in-chassis",
    "enclosure-asset-tag",
)
LONGEST_BIOS_STRING = 512

# --- maps


@message("VM.set_other_config", "VM.set_platform")
def set_map(call: Call, vm: Row, value: dict[str, str]) -> None:
    call.db.update(vm, **{call.message.name.removeprefix("set_"): value})
    refresh(call.lab, vm)


@message("VM.add_to_other_config", "VM.add_to_platform")
def add_to(call: Call, vm: Row, key: str, value: str) -> None:
    add_to_map(call, vm, call.message.name.removeprefix("add_to_"), key, value)
    refresh(call.lab, vm)


@message("VM.remove_from_other_config", "VM.remove_from_platform")
def remove_from(call: Call, vm: Row, key: str) -> None:
    remove_from_map(call, vm, call.message.name.removeprefix("remove_from_"), key)
    refresh(call.lab, vm)


@message("VM.set_NVRAM")
def set_nvram(call: Call, vm: Row, value: dict[str, str]) -> None:
    check_operation(call.lab, vm, "changing_NVRAM")
    call.db.update(vm, NVRAM=value)


@message("VM.add_to_NVRAM")
def add_to_nvram(call: Call, vm: Row, key: str, value: str) -> None:
    check_operation(call.lab, vm, "changing_NVRAM")
    add_to_map(call, vm, "NVRAM", key, value)


@message("VM.remove_from_NVRAM")
def remove_from_nvram(call: Call, vm: Row, key: str) -> None:
    check_operation(call.lab, vm, "changing_NVRAM")
    remove_from_map(call, vm, "NVRAM", key)


# --- restart order and priority


@message("VM.set_ha_restart_priority")
def set_ha_restart_priority(call: Call, vm: Row, value: str) -> None:
    """`restart` on a running VM protects it from now on; any other value ends its protection."""
    if value not in PRIORITIES:
        raise XapiError("INVALID_VALUE", "ha_restart_priority", value)
    always = value == RESTART and vm.power_state == RUNNING
    if always and not vm.ha_always_run:
        check_plan(call.lab, adding=vm)
    call.db.update(vm, ha_restart_priority=value, ha_always_run=always)


@message("VM.set_ha_always_run")
def set_ha_always_run(call: Call, vm: Row, value: bool) -> None:
    """Deprecated: stands for the priority (recorded: ha_settings)."""
    set_ha_restart_priority(call, vm, RESTART if value else "")


@message("VM.set_order", "VM.set_start_delay", "VM.set_shutdown_delay")
def set_natural(call: Call, vm: Row, value: int) -> None:
    name = call.message.name.removeprefix("set_")
    if value < 0:
        raise XapiError("INVALID_VALUE", f"{name} must be non-negative", str(value))
    call.db.update(vm, **{name: value})


@message("VM.set_actions_after_crash")
def set_actions_after_crash(call: Call, vm: Row, value: str) -> None:
    call.db.update(vm, actions_after_crash=value)


# --- memberships


def _check_ordinary(vm: Row, what: str) -> None:
    if vm.is_control_domain or vm.is_a_template or vm.is_a_snapshot:
        raise XapiError("OPERATION_NOT_ALLOWED", f"Control domains, templates and snapshots {what}")


@message("VM.set_appliance")
def set_appliance(call: Call, vm: Row, value: str) -> None:
    _check_ordinary(vm, "cannot be assigned to appliances.")
    left = call.db.find("VM_appliance", vm.appliance)
    call.db.update(vm, appliance=value)
    if left is not None:
        refresh(call.lab, left)
    refresh(call.lab, vm)


@message("VM.set_groups")
def set_groups(call: Call, vm: Row, value: list[str]) -> None:
    _check_ordinary(vm, "cannot be added to VM groups.")
    if len(value) > 1:
        raise XapiError("TOO_MANY_GROUPS")
    for group in value:
        call.db.get("VM_group", group)
    call.db.update(vm, groups=value)


@message("VM.set_suspend_VDI")
def set_suspend_vdi(call: Call, vm: Row, value: str) -> None:
    assert_power_state(vm, SUSPENDED)
    call.db.get("VDI", value)
    call.db.update(vm, suspend_VDI=value)


# --- firmware strings


@message("VM.set_bios_strings")
def set_bios_strings(call: Call, vm: Row, value: dict[str, str]) -> None:
    _check_no_bios_strings(vm)
    for key, text in value.items():
        allowed = key in SETTABLE_BIOS_STRINGS and 0 < len(text) <= LONGEST_BIOS_STRING
        if not allowed or not text.isascii() or not text.isprintable():
            raise XapiError("INVALID_VALUE", key, text)
    call.db.update(vm, bios_strings=value)


@message("VM.copy_bios_strings")
def copy_bios_strings(call: Call, vm: Row, host: str) -> None:
    """Take the host's; the VM then prefers that host."""
    _check_no_bios_strings(vm)
    strings = call.db.get("host", host).bios_strings
    call.db.update(vm, bios_strings=strings, affinity=host)


def _check_no_bios_strings(vm: Row) -> None:
    if vm.bios_strings:
        raise XapiError("VM_BIOS_STRINGS_ALREADY_SET")


# --- devices


@message("VM.get_allowed_VBD_devices")
def get_allowed_vbd_devices(call: Call, vm: Row) -> list[str]:
    taken = {device_number(vbd.userdevice) for vbd in call.db.rows("VBD", vm.VBDs)}
    return [str(number) for number in range(MOST_VBDS) if number not in taken]


@message("VM.get_allowed_VIF_devices")
def get_allowed_vif_devices(call: Call, vm: Row) -> list[str]:
    taken = {vif.device for vif in call.db.rows("VIF", vm.VIFs)}
    return [str(number) for number in range(MOST_VIFS) if str(number) not in taken]


def device_number(name: str) -> int | None:
    """The number of a disk device: "3", "xvdd" and "hdd" are 3; None for anything else."""
    if name.isdecimal():
        return int(name)
    match = re.fullmatch(r"(?:xvd|hd|sd)([a-z]{1,2})\d*", name)
    if match is None:
        return None
    number = 0
    for letter in match[1]:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


# --- guests and plugins


@message("VM.send_sysrq", "VM.send_trigger")
def send(call: Call, vm: Row, what: str) -> None:
    """Not served by the daemon's hypervisor layer either (recorded: lifecycle_running)."""
    check_operation(call.lab, vm, call.message.name)
    raise XapiError("NOT_IMPLEMENTED", call.message.name)


@message("VM.call_plugin")
def call_plugin(call: Call, vm: Row, plugin: str, function: str, args: dict[str, str]) -> str:
    check_operation(call.lab, vm, "call_plugin")
    raise XapiError("XENAPI_MISSING_PLUGIN", plugin)


@message("VM.query_services")
def query_services(call: Call, vm: Row) -> dict[str, str]:
    check_operation(call.lab, vm, "query_services")
    return {}


@message("VM.get_SRs_required_for_recovery")
def get_srs_required_for_recovery(call: Call, vm: Row, session_to: str) -> list[str]:
    """The storage that would have to come along; its records name none (recorded: PROBES)."""
    return []


@message("VM.update_snapshot_metadata")
def update_snapshot_metadata(
    call: Call, vm: Row, snapshot_of: str, snapshot_time: Any, transportable_id: str
) -> None:
    """Deprecated; does nothing."""
