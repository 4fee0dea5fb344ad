"""Which hosts can take a VM, and which of them VM.start chooses.

Facts: FACTS 4 (xapi_vm_helpers.ml, vm_placement.ml); recorded: placement_errors, pool_migrate,
network_lifecycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.lab.classes.network import check_networks
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.memory import Policy, free_by_policy, free_memory, memory_overhead
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

POLICIES: tuple[Policy, ...] = ("static_max", "dynamic_max", "dynamic_min")


def check_can_boot(
    lab: Lab, vm: Row, host: str, *, memory: bool = True, storage: bool = True
) -> None:
    """Raise, in the daemon's order, what keeps the VM from running on the host.

    `memory` and `storage` say whether free memory and the reach of its disks count.
    """
    check_parameters(vm)
    row = _live_host(lab, host)
    if vm.is_control_domain and row.control_domain == vm.ref != NULL and vm.affinity != host:
        raise XapiError(
            "OPERATION_NOT_ALLOWED",
            "Cannot boot a control domain on a host different from its affinity",
        )
    if not vm.is_control_domain and not row.enabled:
        raise XapiError("HOST_DISABLED", host)
    _check_platform_version(vm, row)
    if storage:
        _check_storage(lab, vm, row)
    check_networks(lab, vm, row)
    if memory:
        _check_memory(lab, vm, row)
    _check_cpus(vm, row)


def check_parameters(vm: Row) -> None:
    """The VM's own numbers: vCPUs and the order of its memory limits."""
    if not 1 <= vm.VCPUs_at_startup <= vm.VCPUs_max:
        raise XapiError(
            "VALUE_NOT_SUPPORTED",
            "VCPUs_at_startup",
            str(vm.VCPUs_at_startup),
            "value greater than VCPUs_max" if vm.VCPUs_max > 0 else "must be positive",
        )
    limits = (
        vm.memory_static_min,
        vm.memory_dynamic_min,
        vm.memory_dynamic_max,
        vm.memory_static_max,
    )
    if list(limits) != sorted(limits):
        raise XapiError("MEMORY_CONSTRAINT_VIOLATION", "VM's memory limits are out of order")


def _live_host(lab: Lab, ref: str) -> Row:
    # A host that does not exist is not live either (recorded: placement_errors).
    host = lab.db.find("host", ref)
    if host is None or not is_live(lab, host):
        raise XapiError("HOST_NOT_LIVE")
    return host


def is_live(lab: Lab, host: Row) -> bool:
    metrics = lab.db.find("host_metrics", host.metrics)
    return metrics is not None and bool(metrics.live)


def _check_platform_version(vm: Row, host: Row) -> None:
    offered = host.virtual_hardware_platform_versions
    if vm.hardware_platform_version > max(offered):
        raise XapiError(
            "VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION",
            host.ref,
            "[" + "; ".join(f"{version}L" for version in offered) + "]",
            vm.ref,
            str(vm.hardware_platform_version),
        )


def _check_storage(lab: Lab, vm: Row, host: Row) -> None:
    reachable = {pbd.SR for pbd in lab.db.rows("PBD", host.PBDs) if pbd.currently_attached}
    for sr in storage_of(lab, vm):
        if sr not in reachable:
            raise XapiError("VM_REQUIRES_SR", vm.ref, sr)


def storage_of(lab: Lab, vm: Row) -> list[str]:
    """Every SR that the VM needs to run: of its disks, filled drives and its suspend image."""
    wanted: dict[str, None] = {}
    for vbd in lab.db.rows("VBD", vm.VBDs):
        vdi = None if vbd.empty else lab.db.find("VDI", vbd.VDI)
        if vdi is not None:
            wanted[vdi.SR] = None
    image = lab.db.find("VDI", vm.suspend_VDI)
    if image is not None and vm.power_state == "Suspended":
        wanted[image.SR] = None
    return list(wanted)


def _check_memory(lab: Lab, vm: Row, host: Row) -> None:
    wanted = start_memory(vm)
    free = free_memory(lab, host, ignoring=vm.ref)
    if free < wanted:
        raise XapiError("HOST_NOT_ENOUGH_FREE_MEMORY", str(wanted), str(free))


def start_memory(vm: Row) -> int:
    memory: int = vm.memory_static_max if vm.domain_type == "pv_in_pvh" else vm.memory_dynamic_min
    return memory + memory_overhead(vm)


def _check_cpus(vm: Row, host: Row) -> None:
    if vm.platform.get("vcpu-unrestricted") in ("true", "1"):
        return
    cpus = int(host.cpu_info.get("cpu_count", "0"))
    if vm.VCPUs_max > cpus:
        raise XapiError("HOST_NOT_ENOUGH_PCPUS", str(vm.VCPUs_max), str(cpus))


def can_take(lab: Lab, vm: Row, host: Row, *, memory: bool = True) -> bool:
    """Whether VM.start may choose the host for the VM."""
    if "evacuate" in host.current_operations.values():
        return False
    try:
        check_can_boot(lab, vm, host.ref, memory=memory)
    except XapiError:
        return False
    return True


def possible_hosts(lab: Lab, vm: Row) -> list[Row]:
    return [host for host in lab.db.all("host") if can_take(lab, vm, host)]


def choose_host(lab: Lab, vm: Row, excluding: Sequence[Row] = ()) -> Row:
    """The host for VM.start and VM.resume. Raises NO_HOSTS_AVAILABLE.

    Hosts with room for all their guests at full size come first, drawn with a bias to the
    emptiest; then those that have it at dynamic_max; then those that can balloon. An affinity
    host goes before all as long as it is possible at all.
    """
    wanted = start_memory(vm)
    room = {
        host.ref: free_by_policy(lab, host, ignoring=vm.ref)
        for host in lab.db.all("host")
        if host not in excluding and can_take(lab, vm, host, memory=False)
    }
    hosts = lab.db.rows("host", [ref for ref in room if room[ref]["dynamic_min"] >= wanted])
    for group in _ranked(lab, vm, hosts):
        affine = next((host for host in group if host.ref == vm.affinity), None)
        if affine is not None:
            return affine
        host = _by_room(lab, vm, group, room)
        if host is not None:
            return host
    raise XapiError("NO_HOSTS_AVAILABLE")


def _ranked(lab: Lab, vm: Row, hosts: list[Row]) -> list[list[Row]]:
    """Groups of hosts to be tried in turn: those with fewest VMs of an anti-affinity group first."""
    groups = [
        group.ref
        for group in lab.db.rows("VM_group", vm.groups)
        if group.placement == "anti_affinity"
    ]
    if not groups:
        return [hosts]
    members = set(lab.db.get("VM_group", groups[0]).VMs)
    ranks: dict[int, list[Row]] = {}
    for host in hosts:
        ranks.setdefault(len(members.intersection(host.resident_VMs)), []).append(host)
    return [ranks[rank] for rank in sorted(ranks)]


def _by_room(lab: Lab, vm: Row, hosts: list[Row], room: dict[str, dict[Policy, int]]) -> Row | None:
    overhead = memory_overhead(vm)
    coordinator = lab.coordinator.host.ref if lab.pool.coordinator_bias else NULL
    for policy in POLICIES:
        wanted = vm.fields[f"memory_{policy}"] + overhead
        left = {host.ref: room[host.ref][policy] - wanted for host in hosts}
        if coordinator in left and left[coordinator] > 0:
            left[coordinator] //= 2
        fitting = sorted(
            (host for host in hosts if left[host.ref] >= 0), key=lambda host: -left[host.ref]
        )
        if fitting:
            return fitting[int(lab.random.random() ** 2 * len(fitting))]
    return None
