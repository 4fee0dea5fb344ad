"""A VM's memory and virtual CPUs: limits, overhead, and setting them.

Facts: FACTS 3, XAPI.md 5.3 (ocaml/xapi-idl/memory/memory.ml); recorded: vm_memory_vcpus. Sizes
are bytes unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from deploy.lab.classes.vm_lifecycle import RUNNING, check_operation
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.operations import refresh

MIB = 1024**2
PAGES_PER_MIB = 256
MOST_VCPUS = 64
VCPU_RULE = "VCPU values must satisfy: 0 < VCPUs_at_startup ≤ VCPUs_max"
LIVE_VCPU_RULE = "VCPU values must satisfy: 0 < VCPUs ≤ VCPUs_max"


@dataclass(frozen=True)
class Limits:
    """The four memory limits of a VM, in their required order."""

    static_min: int
    dynamic_min: int
    dynamic_max: int
    static_max: int

    @classmethod
    def of(cls, vm: Row, **changes: int) -> Limits:
        return cls(
            **{f.name: changes.get(f.name, vm.fields[f"memory_{f.name}"]) for f in fields(cls)}
        )

    def check(self) -> None:
        if not 0 <= self.static_min <= self.dynamic_min <= self.dynamic_max <= self.static_max:
            raise XapiError("MEMORY_CONSTRAINT_VIOLATION_ORDER")


def memory_overhead(vm: Row) -> int:
    """What the host needs for this VM besides its memory; a control domain's never changes."""
    if vm.is_control_domain:
        return int(vm.memory_overhead)
    return _overhead(vm.domain_type, vm.memory_static_max, vm.VCPUs_max, vm.HVM_shadow_multiplier)


def _overhead(domain_type: str, static_max: int, vcpus: int, multiplier: float) -> int:
    if domain_type == "pv":
        return MIB
    static_max_mib = _ceiling(static_max, MIB)
    shadow_pages = PAGES_PER_MIB * vcpus + 2 * static_max_mib
    shadow_mib = max(1, int(_ceiling(shadow_pages, PAGES_PER_MIB) * multiplier))
    shim_mib = 20 + static_max_mib // 110 if domain_type == "pv_in_pvh" else 0
    return (2 + shadow_mib + shim_mib) * MIB


def _ceiling(amount: int, unit: int) -> int:
    return -(-amount // unit)


def update_overhead(call: Call, vm: Row) -> None:
    call.db.update(vm, memory_overhead=memory_overhead(vm))


@message("VM.compute_memory_overhead")
def compute_memory_overhead(call: Call, vm: Row) -> int:
    return memory_overhead(vm)


@message("VM.maximise_memory")
def maximise_memory(call: Call, vm: Row, total: int, approximate: bool) -> int:
    """The largest memory_static_max (whole MiB) that fits into `total` with its overhead.

    Approximate: for any number of vCPUs the VM might later be given.
    """
    vcpus = max(MOST_VCPUS, vm.VCPUs_max) if approximate else vm.VCPUs_max
    low, high = 0, total // MIB
    while low < high:
        middle = (low + high + 1) // 2
        overhead = _overhead(vm.domain_type, middle * MIB, vcpus, vm.HVM_shadow_multiplier)
        if middle * MIB + overhead <= total:
            low = middle
        else:
            high = middle - 1
    return low * MIB


# --- limits


def _set_limits(call: Call, vm: Row, operation: str, **changes: int) -> None:
    check_operation(call.lab, vm, operation)
    limits = Limits.of(vm, **changes)
    limits.check()
    values = {f"memory_{name}": value for name, value in changes.items()}
    if {"dynamic_min", "dynamic_max"} & changes.keys():
        live = vm.power_state == RUNNING
        values["memory_target"] = limits.dynamic_max if live else limits.dynamic_min
    call.db.update(vm, **values)
    update_overhead(call, vm)
    refresh(call.lab, vm)


@message("VM.set_memory_limits")
def set_memory_limits(
    call: Call, vm: Row, static_min: int, static_max: int, dynamic_min: int, dynamic_max: int
) -> None:
    _set_limits(
        call,
        vm,
        "changing_memory_limits",
        static_min=static_min,
        static_max=static_max,
        dynamic_min=dynamic_min,
        dynamic_max=dynamic_max,
    )


@message("VM.set_memory")
def set_memory(call: Call, vm: Row, value: int) -> None:
    """All limits but the static minimum."""
    _set_limits(
        call,
        vm,
        "changing_memory_limits",
        static_max=value,
        dynamic_min=value,
        dynamic_max=value,
    )


@message("VM.set_memory_static_range")
def set_memory_static_range(call: Call, vm: Row, minimum: int, maximum: int) -> None:
    _set_limits(call, vm, "changing_static_range", static_min=minimum, static_max=maximum)


@message("VM.set_memory_static_min")
def set_memory_static_min(call: Call, vm: Row, value: int) -> None:
    _set_limits(call, vm, "changing_static_range", static_min=value)


@message("VM.set_memory_static_max")
def set_memory_static_max(call: Call, vm: Row, value: int) -> None:
    _set_limits(call, vm, "changing_static_range", static_max=value)


@message("VM.set_memory_dynamic_range")
def set_memory_dynamic_range(call: Call, vm: Row, minimum: int, maximum: int) -> None:
    _set_limits(call, vm, "changing_dynamic_range", dynamic_min=minimum, dynamic_max=maximum)


@message("VM.set_memory_dynamic_min")
def set_memory_dynamic_min(call: Call, vm: Row, value: int) -> None:
    _set_limits(call, vm, "changing_dynamic_range", dynamic_min=value)


@message("VM.set_memory_dynamic_max")
def set_memory_dynamic_max(call: Call, vm: Row, value: int) -> None:
    _set_limits(call, vm, "changing_dynamic_range", dynamic_max=value)


@message("VM.set_memory_target_live")
def set_memory_target_live(call: Call, vm: Row, target: int) -> None:
    """Deprecated: the daemon checks the VM's state and leaves the memory to the balloon driver."""
    check_operation(call.lab, vm, "changing_memory_live")


@message("VM.wait_memory_target_live")
def wait_memory_target_live(call: Call, vm: Row) -> None:
    check_operation(call.lab, vm, "awaiting_memory_live")


@message("VM.get_cooperative")
def get_cooperative(call: Call, vm: Row) -> bool:
    return True


# --- virtual CPUs and shadow memory


def _check_vcpus(at_startup: int, maximum: int, given: int) -> None:
    if not 0 < at_startup <= maximum:
        raise XapiError("INVALID_VALUE", VCPU_RULE, str(given))


@message("VM.set_VCPUs_max")
def set_vcpus_max(call: Call, vm: Row, value: int) -> None:
    check_operation(call.lab, vm, "changing_VCPUs")
    _check_vcpus(vm.VCPUs_at_startup, value, value)
    call.db.update(vm, VCPUs_max=value)
    update_overhead(call, vm)


@message("VM.set_VCPUs_at_startup")
def set_vcpus_at_startup(call: Call, vm: Row, value: int) -> None:
    """Accepted in any power state (recorded: lifecycle_running)."""
    _check_vcpus(value, vm.VCPUs_max, value)
    call.db.update(vm, VCPUs_at_startup=value)


@message("VM.set_VCPUs_number_live")
def set_vcpus_number_live(call: Call, vm: Row, value: int) -> None:
    check_operation(call.lab, vm, "changing_VCPUs_live")
    if not 0 < value <= vm.VCPUs_max:
        raise XapiError("INVALID_VALUE", LIVE_VCPU_RULE, str(vm.VCPUs_max))
    metrics = call.db.find("VM_metrics", vm.metrics)
    if metrics is not None:
        call.db.update(metrics, VCPUs_number=value)
    call.db.update(vm, VCPUs_at_startup=value)
    refresh(call.lab, vm)


@message("VM.add_to_VCPUs_params_live")
def add_to_vcpus_params_live(call: Call, vm: Row, key: str, value: str) -> None:
    check_operation(call.lab, vm, "changing_VCPUs_live")
    call.db.update(vm, VCPUs_params={key: value, **vm.VCPUs_params})


def _set_multiplier(call: Call, vm: Row, operation: str, value: float) -> None:
    check_operation(call.lab, vm, operation)
    if value < 1.0:
        raise XapiError("INVALID_VALUE", "multiplier", f"{value:.12g}" + "." * (value % 1 == 0))
    call.db.update(vm, HVM_shadow_multiplier=value)
    update_overhead(call, vm)
    refresh(call.lab, vm)


@message("VM.set_HVM_shadow_multiplier")
def set_hvm_shadow_multiplier(call: Call, vm: Row, value: float) -> None:
    _set_multiplier(call, vm, "changing_shadow_memory", value)


@message("VM.set_shadow_multiplier_live")
def set_shadow_multiplier_live(call: Call, vm: Row, value: float) -> None:
    _set_multiplier(call, vm, "changing_shadow_memory_live", value)
