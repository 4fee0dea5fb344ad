"""Memory limits, overheads and virtual CPUs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

MIB = 1 << 20
VCPU_RULE = "VCPU values must satisfy: 0 < VCPUs_at_startup ≤ VCPUs_max"


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with (
        running_lab(hosts=1, tls=False, preset="small", rate=20.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


@pytest.mark.parametrize(
    ("memory_mib", "vcpus", "multiplier", "overhead_mib"),
    [
        (256, 1, 1.0, 5),
        (512, 1, 1.0, 7),
        (600, 1, 1.0, 8),
        (256, 4, 1.5, 11),
        (40 << 10, 1, 1.0, 323),
    ],
)
def test_overhead_follows_memory_and_vcpus(
    vms: Vms, memory_mib: int, vcpus: int, multiplier: float, overhead_mib: int
) -> None:
    vm = vms.vm(memory=memory_mib * MIB, vcpus=vcpus, HVM_shadow_multiplier=multiplier)
    assert vms.api.VM.get_memory_overhead(vm) == str(overhead_mib * MIB)
    assert vms.api.VM.compute_memory_overhead(vm) == str(overhead_mib * MIB)


def test_limits_must_be_in_order(vms: Vms) -> None:
    vm = vms.vm()
    sizes = [str(n * MIB) for n in (512, 128, 256, 256)]
    assert error_of(vms.api.VM.set_memory_limits, vm, *sizes) == [
        "MEMORY_CONSTRAINT_VIOLATION_ORDER"
    ]


def test_setting_limits_changes_overhead_and_target(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.set_memory_limits(vm, *[str(n * MIB) for n in (128, 512, 256, 512)])
    record = vms.api.VM.get_record(vm)
    assert record["memory_target"] == str(256 * MIB)
    assert record["memory_overhead"] == str(7 * MIB)


def test_set_memory_leaves_the_static_minimum(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.set_memory_static_min(vm, str(64 * MIB))
    vms.api.VM.set_memory(vm, str(128 * MIB))
    record = vms.api.VM.get_record(vm)
    assert (record["memory_static_min"], record["memory_static_max"]) == (
        str(64 * MIB),
        str(128 * MIB),
    )


def test_a_running_vm_changes_only_its_dynamic_range(vms: Vms) -> None:
    vm = vms.started("h1")
    size = str(256 * MIB)
    expected = ["VM_BAD_POWER_STATE", vm, "halted", "running"]
    assert error_of(vms.api.VM.set_memory_limits, vm, size, size, size, size) == expected
    assert error_of(vms.api.VM.set_memory_static_range, vm, size, size) == expected
    vms.api.VM.set_memory_dynamic_range(vm, size, size)
    vms.api.VM.hard_shutdown(vm)


def test_vcpus_at_startup_stay_within_the_maximum(vms: Vms) -> None:
    vm = vms.vm(vcpus=4)
    vms.api.VM.set_VCPUs_at_startup(vm, "3")
    assert error_of(vms.api.VM.set_VCPUs_at_startup, vm, "9") == ["INVALID_VALUE", VCPU_RULE, "9"]
    assert error_of(vms.api.VM.set_VCPUs_max, vm, "1") == ["INVALID_VALUE", VCPU_RULE, "1"]


def test_a_running_vm_keeps_its_maximum_of_vcpus(vms: Vms) -> None:
    vm = vms.started("h1", vcpus=4)
    assert error_of(vms.api.VM.set_VCPUs_max, vm, "2")[0] == "VM_BAD_POWER_STATE"
    vms.api.VM.set_VCPUs_number_live(vm, "2")
    assert vms.api.VM.get_VCPUs_at_startup(vm) == "2"
    answer = error_of(vms.api.VM.set_VCPUs_number_live, vm, "5")
    assert answer == ["INVALID_VALUE", "VCPU values must satisfy: 0 < VCPUs ≤ VCPUs_max", "4"]
    vms.api.VM.hard_shutdown(vm)


def test_the_shadow_multiplier_is_at_least_one(vms: Vms) -> None:
    vm = vms.vm()
    answer = error_of(vms.api.VM.set_HVM_shadow_multiplier, vm, 0.5)
    assert answer == ["INVALID_VALUE", "multiplier", "0.5"]


def test_maximise_memory_leaves_room_for_the_overhead(vms: Vms) -> None:
    assert vms.api.VM.maximise_memory(vms.vm(), str(1 << 30), False) == str(1013 * MIB)
