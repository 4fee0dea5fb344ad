"""The memory ledger: what a VM takes of a host beyond its own memory, and what a host has left.

Facts: memory_check.ml and xapi-idl's memory.ml as told by XAPI.md 5.3 (without the newer term per
vCPU, which the recorded daemon does not have) and FACTS 4. Sizes are bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

MIB = 1024**2
DOM0_OVERHEAD = 19 * MIB

Policy = Literal["dynamic_min", "dynamic_max", "static_max"]
"""To what size the guests of a host are taken to be ballooned."""


def memory_overhead(vm: Row) -> int:
    """What the hypervisor takes for the VM on top of its memory (recorded: 5 MiB at 256 MiB)."""
    from deploy.lab.classes import vm_memory

    return DOM0_OVERHEAD if vm.is_control_domain else vm_memory.memory_overhead(vm)


def needed(vm: Row, policy: Policy = "dynamic_min") -> int:
    """What the VM takes of its host while it runs."""
    fields = vm.fields
    memory: int = fields[f"memory_{policy}"]
    return memory + int(fields["memory_overhead"] or memory_overhead(vm))


def free_memory(lab: Lab, host: Row, *, ignoring: str | None = None) -> int:
    """What is left of the host when its VMs are ballooned to their dynamic_min.

    VMs on their way to the host count; `ignoring` is the reference of one that shall not.
    """
    return free_by_policy(lab, host, ignoring=ignoring)["dynamic_min"]


def free_by_policy(lab: Lab, host: Row, *, ignoring: str | None = None) -> dict[Policy, int]:
    """What is left of the host for each size that its VMs may be ballooned to."""
    lowest = highest = static = 0
    # Placement asks this of every host of the pool: hence the direct look into the fields.
    for vm in (*lab.db.rows("VM", host.resident_VMs), *_arriving(lab, host, ignoring)):
        fields = vm.fields
        overhead = fields["memory_overhead"] or memory_overhead(vm)
        lowest += fields["memory_dynamic_min"] + overhead
        highest += fields["memory_dynamic_max"] + overhead
        static += fields["memory_static_max"] + overhead
    metrics = lab.db.get("host_metrics", host.metrics)
    total: int = metrics.memory_total - host.memory_overhead
    return {
        "dynamic_min": total - lowest,
        "dynamic_max": total - highest,
        "static_max": total - static,
    }


def _arriving(lab: Lab, host: Row, ignoring: str | None) -> list[Row]:
    """VMs that have been given to the host and are not resident yet."""
    refs = lab.machine(host.ref).arriving
    if not refs:
        return []
    return [
        vm
        for vm in lab.db.rows("VM", list(refs))
        if vm.scheduled_to_be_resident_on == host.ref != vm.resident_on and vm.ref != ignoring
    ]


def schedule(lab: Lab, vm: Row, host: Row) -> None:
    """Give the VM to the host: from now on its memory counts there."""
    lab.machine(host.ref).arriving.add(vm.ref)
    lab.db.update(vm, scheduled_to_be_resident_on=host.ref)


def unschedule(lab: Lab, vm: Row, host: Row) -> None:
    """The VM has arrived, or will not come."""
    lab.machine(host.ref).arriving.discard(vm.ref)
    if vm.scheduled_to_be_resident_on == host.ref:
        lab.db.update(vm, scheduled_to_be_resident_on="OpaqueRef:NULL")
