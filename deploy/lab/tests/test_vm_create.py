"""VM.create: what it needs, what it takes and forgets, what the record shows; VM.destroy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.samples import vm_record
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

NULL = "OpaqueRef:NULL"
NOBODY = "OpaqueRef:00000000-1111-2222-3333-444444444444"
WHOLE = {name: value for name, value in vm_record("").items() if name != "name_label"}


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=1, tls=False, preset="small") as lab, vms_of(lab) as vms:
        yield vms


@pytest.mark.parametrize("missing", sorted(WHOLE.keys() - {"name_description"}))
def test_a_field_without_default_must_be_given(vms: Vms, missing: str) -> None:
    record = {name: value for name, value in WHOLE.items() if name != missing}
    expected = f'Server_helpers.Dispatcher_FieldNotFound("{missing}")'
    assert error_of(vms.api.VM.create, record) == ["INTERNAL_ERROR", expected]


def test_names_may_be_left_out(vms: Vms) -> None:
    vm = vms.api.VM.create({k: v for k, v in WHOLE.items() if k != "name_description"})
    assert vms.api.VM.get_name_label(vm) == vms.api.VM.get_name_description(vm) == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("power_state", "Running"),
        ("resident_on", "OpaqueRef:x"),
        ("uuid", "11111111-2222-3333-4444-555555555555"),
        ("is_control_domain", True),
        ("blocked_operations", {"start": "no"}),
        ("ha_always_run", True),
        ("nosuchfield", "x"),
    ],
)
def test_what_a_vm_cannot_be_born_with_is_ignored(vms: Vms, field: str, value: Any) -> None:
    vm = vms.api.VM.create(WHOLE | {field: value})
    assert vms.api.VM.get_record(vm).get(field) != value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_static_max", "-1"),
        ("VCPUs_max", "0"),
        ("VCPUs_at_startup", "9"),
        ("affinity", NOBODY),
        ("appliance", NOBODY),
        ("ha_restart_priority", "bogus"),
        ("order", "-3"),
        ("HVM_shadow_multiplier", 0.5),
        ("platform", {"videoram": "x"}),
        ("PV_kernel", "/etc/passwd"),
    ],
)
def test_create_stores_values_that_setters_refuse(vms: Vms, field: str, value: Any) -> None:
    vm = vms.api.VM.create(WHOLE | {field: value})
    assert vms.api.VM.get_record(vm)[field] == value


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("memory_static_max", "x", "Int64.of_string"),
        ("actions_after_reboot", "bogus", "Unknown tag/contents"),
        ("domain_type", "bogus", "Unknown tag/contents"),
        ("is_a_template", "false", "Expected bool, got 'S(false)'"),
        ("other_config", "x", "Expecting Rpc.Dict, but found 'S(x)'"),
        ("tags", "x", "Expecting Rpc.Enum, but found 'S(x)'"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_internal_error(
    vms: Vms, field: str, value: Any, complaint: str
) -> None:
    expected = ["INTERNAL_ERROR", f'Failure("{complaint}")']
    assert error_of(vms.api.VM.create, WHOLE | {field: value}) == expected


def test_enumerations_do_not_mind_case(vms: Vms) -> None:
    vm = vms.api.VM.create(WHOLE | {"actions_after_crash": "Destroy"})
    assert vms.api.VM.get_actions_after_crash(vm) == "destroy"


@pytest.mark.parametrize(("policy", "expected"), [("BIOS order", "hvm"), ("", "pv")])
def test_the_boot_policy_tells_the_domain_type(vms: Vms, policy: str, expected: str) -> None:
    vm = vms.api.VM.create(WHOLE | {"HVM_boot_policy": policy})
    assert vms.api.VM.get_domain_type(vm) == expected


def test_the_vendor_device_needs_a_newer_platform(vms: Vms) -> None:
    with_device = vms.api.VM.create(WHOLE)
    without = vms.api.VM.create(WHOLE | {"has_vendor_device": False})
    assert vms.api.VM.get_hardware_platform_version(with_device) == "2"
    assert vms.api.VM.get_hardware_platform_version(without) == "0"


def test_every_vm_gets_a_mac_seed_of_its_own(vms: Vms) -> None:
    seeds = [vms.api.VM.get_other_config(vms.vm())["mac_seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]


def test_a_new_vm_shows_its_overhead_and_its_metrics(vms: Vms) -> None:
    record = vms.api.VM.get_record(vms.vm())
    assert record["memory_overhead"] == str(5 << 20)
    assert vms.api.VM_metrics.get_record(record["metrics"])["VCPUs_number"] == "0"


def test_destroy_takes_devices_and_metrics_along_but_not_disks(vms: Vms) -> None:
    vm = vms.vm()
    vif = vms.give_interface(vm, vms.api.network.get_by_name_label("Pool-wide network 0")[0])
    metrics = vms.api.VM.get_metrics(vm)
    vms.api.VM.destroy(vm)
    assert error_of(vms.api.VM.get_record, vm) == ["HANDLE_INVALID", "VM", vm]
    assert error_of(vms.api.VIF.get_record, vif)[0] == "HANDLE_INVALID"
    assert error_of(vms.api.VM_metrics.get_record, metrics)[0] == "HANDLE_INVALID"


def test_a_default_template_is_not_destroyed(vms: Vms) -> None:
    template = vms.api.VM.get_by_name_label("Debian Bookworm 12")[0]
    assert error_of(vms.api.VM.destroy, template) == ["VM_IS_TEMPLATE", template, "destroy"]


def test_device_numbers_in_use_are_not_offered(vms: Vms) -> None:
    vm = vms.vm()
    vms.give_interface(vm, vms.api.network.get_by_name_label("Pool-wide network 0")[0])
    assert vms.api.VM.get_allowed_VIF_devices(vm) == [str(n) for n in range(1, 16)]
    assert len(vms.api.VM.get_allowed_VBD_devices(vm)) == 255


def test_the_suspended_can_be_created(vms: Vms) -> None:
    vm = vms.api.VM.create(WHOLE | {"power_state": "Suspended", "suspend_VDI": NULL})
    assert vms.state(vm) == "Suspended"
