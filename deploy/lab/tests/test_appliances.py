from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.networking import refusal
from deploy.lab.tests.vms import Vms, vms_of


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(2, tls=False, rate=200.0) as lab, vms_of(lab) as client:
        yield client


@pytest.fixture
def appliance(vms: Vms) -> str:
    return str(vms.api.VM_appliance.create({"name_label": "web", "name_description": ""}))


def members(vms: Vms, appliance: str, count: int = 2) -> list[str]:
    made = [vms.vm() for _ in range(count)]
    for vm in made:
        vms.api.VM.set_appliance(vm, appliance)
    return made


def states(vms: Vms, refs: list[str]) -> set[str]:
    return {str(vms.api.VM.get_power_state(ref)) for ref in refs}


def test_an_appliance_without_vms_cannot_start(vms: Vms, appliance: str) -> None:
    refused = refusal(lambda: vms.api.VM_appliance.start(appliance, False))
    assert refused == ["OPERATION_NOT_ALLOWED", "Appliance has no VMs."]


def test_an_appliance_starts_and_stops_all_its_vms(vms: Vms, appliance: str) -> None:
    made = members(vms, appliance)
    vms.api.VM.set_order(made[0], "1")
    assert vms.api.VM_appliance.get_allowed_operations(appliance) == ["start"]
    vms.api.VM_appliance.start(appliance, False)
    assert states(vms, made) == {"Running"}
    allowed = vms.api.VM_appliance.get_allowed_operations(appliance)
    assert sorted(allowed) == ["clean_shutdown", "hard_shutdown", "shutdown"]
    vms.api.VM_appliance.clean_shutdown(appliance)
    assert states(vms, made) == {"Halted"}


def test_an_appliance_names_the_vms_that_did_not_start(vms: Vms, appliance: str) -> None:
    good, bad = members(vms, appliance)
    vms.api.VM.set_VCPUs_max(bad, "99")
    refused = refusal(lambda: vms.api.VM_appliance.start(appliance, False))
    assert refused == ["OPERATION_PARTIALLY_FAILED", "VM_appliance.start", bad]
    assert states(vms, [good]) == {"Running"}
    vms.api.VM_appliance.shutdown(appliance)


def test_a_vm_of_an_appliance_stays_a_vm_and_leaves_it_when_destroyed(
    vms: Vms, appliance: str
) -> None:
    (vm,) = members(vms, appliance, 1)
    refused = refusal(lambda: vms.api.VM.set_is_a_template(vm, True))
    assert refused == ["VM_IS_PART_OF_AN_APPLIANCE", vm, appliance]
    vms.api.VM.destroy(vm)
    assert vms.api.VM_appliance.get_VMs(appliance) == []


@pytest.mark.parametrize(
    ("method", "value"), [("set_appliance", "OpaqueRef:NULL"), ("set_groups", [])]
)
def test_templates_belong_to_no_appliance_and_no_group(vms: Vms, method: str, value: Any) -> None:
    template = next(
        ref for ref, record in vms.api.VM.get_all_records().items() if record["is_default_template"]
    )
    refused = refusal(lambda: getattr(vms.api.VM, method)(template, value))
    assert refused[0] == "OPERATION_NOT_ALLOWED"
    assert refused[1].startswith("Control domains, templates and snapshots cannot be")
