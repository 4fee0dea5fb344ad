"""Setters of VMs that are more than a write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.classes.vm_fields import device_number
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=1, tls=False, preset="small", rate=20.0) as lab, vms_of(lab) as vms:
        yield vms


@pytest.mark.parametrize("priority", ["restart", "best-effort", ""])
def test_a_halted_vm_is_not_protected_by_its_priority(vms: Vms, priority: str) -> None:
    vm = vms.vm()
    vms.api.VM.set_ha_restart_priority(vm, priority)
    assert vms.api.VM.get_ha_restart_priority(vm) == priority
    assert vms.api.VM.get_ha_always_run(vm) is False


@pytest.mark.parametrize("priority", ["nope", "0", "Restart"])
def test_other_priorities_are_refused(vms: Vms, priority: str) -> None:
    answer = error_of(vms.api.VM.set_ha_restart_priority, vms.vm(), priority)
    assert answer == ["INVALID_VALUE", "ha_restart_priority", priority]


def test_a_running_vm_is_protected_from_when_its_priority_says_so(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.api.VM.set_ha_restart_priority(vm, "restart")
    assert vms.api.VM.get_ha_always_run(vm) is True
    vms.api.VM.set_ha_restart_priority(vm, "best-effort")
    assert vms.api.VM.get_ha_always_run(vm) is False
    vms.api.VM.hard_shutdown(vm)


@pytest.mark.parametrize("field", ["order", "start_delay", "shutdown_delay"])
def test_orders_and_delays_are_not_negative(vms: Vms, field: str) -> None:
    answer = error_of(getattr(vms.api.VM, f"set_{field}"), vms.vm(), "-1")
    assert answer == ["INVALID_VALUE", f"{field} must be non-negative", "-1"]


def test_bios_strings_are_given_once(vms: Vms) -> None:
    vm, host = vms.vm(), vms.hosts["h1"]
    vms.api.VM.copy_bios_strings(vm, host)
    assert vms.api.VM.get_affinity(vm) == host
    answer = error_of(vms.api.VM.copy_bios_strings, vm, host)
    assert answer == ["VM_BIOS_STRINGS_ALREADY_SET"]


def test_a_firmware_string_must_be_one(vms: Vms) -> None:
    answer = error_of(vms.api.VM.set_bios_strings, vms.vm(), {"nosuch": "x"})
    assert answer == ["INVALID_VALUE", "nosuch", "x"]


def test_a_key_is_added_to_a_map_once(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.add_to_platform(vm, "k", "v")
    answer = error_of(vms.api.VM.add_to_platform, vm, "k", "v")
    assert answer == ["MAP_DUPLICATE_KEY", "VM", "platform", vm, "k"]
    vms.api.VM.remove_from_platform(vm, "absent")


def test_boot_policy_and_domain_type_follow_each_other(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.set_domain_type(vm, "pv")
    assert vms.api.VM.get_HVM_boot_policy(vm) == ""
    vms.api.VM.set_HVM_boot_policy(vm, "BIOS order")
    assert vms.api.VM.get_domain_type(vm) == "hvm"


def test_a_plugin_that_is_not_there_is_missing(vms: Vms) -> None:
    vm = vms.started("h1")
    answer = error_of(vms.api.VM.call_plugin, vm, "x", "y", {})
    assert answer == ["XENAPI_MISSING_PLUGIN", "x"]
    vms.api.VM.hard_shutdown(vm)


@pytest.mark.parametrize(
    ("name", "number"), [("3", 3), ("xvdd", 3), ("hda", 0), ("sdab", 27), ("autodetect", None)]
)
def test_disk_devices_have_numbers(name: str, number: int | None) -> None:
    assert device_number(name) == number
