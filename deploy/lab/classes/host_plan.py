"""Where the VMs of a host would go if it were emptied (xapi_host.ml; recorded: host_evacuate)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.classes.vm_lifecycle import check_operation
from deploy.lab.classes.wiring import is_protected
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.memory import free_memory, needed
from deploy.lab.placement import check_can_boot, check_parameters, storage_of

if TYPE_CHECKING:
    from deploy.lab.lab import Lab


def plan_evacuation(lab: Lab, host: Row) -> dict[str, Row | XapiError]:
    """VM → the host it would move to, or what keeps it here.

    A VM moves only if it could run on every other enabled host, memory apart; then memory is
    packed.
    """
    vms = [vm for vm in lab.db.rows("VM", host.resident_VMs) if not vm.is_control_domain]
    targets = [other for other in lab.db.all("host") if other.enabled and other is not host]
    if not targets:
        return {vm.ref: XapiError("NO_HOSTS_AVAILABLE", vm.ref) for vm in reversed(vms)}
    plan: dict[str, Row | XapiError] = {}
    movable = []
    passed: set[tuple[object, ...]] = set()
    for vm in vms:
        if lab.pool.ha_enabled and not is_protected(vm):
            plan[vm.ref] = no_room(vm)
            continue
        error = _obstacle(lab, vm, targets, passed)
        if error is None:
            movable.append(vm)
        else:
            plan[vm.ref] = error
    for vm in vms:
        try:
            check_operation(lab, vm, "pool_migrate", strict=True)
        except XapiError as error:
            plan[vm.ref] = error
    placed = pack(lab, movable, targets)
    for vm in movable:
        if vm.ref not in plan:
            plan[vm.ref] = placed.get(vm.ref) or no_room(vm)
    return plan


def no_room(vm: Row) -> XapiError:
    return XapiError("HOST_NOT_ENOUGH_FREE_MEMORY", vm.ref)


def _obstacle(
    lab: Lab, vm: Row, targets: list[Row], passed: set[tuple[object, ...]]
) -> XapiError | None:
    """What keeps the VM from running on one of the targets.

    `passed` holds the needs that every target was found to meet: hundreds of VMs have a few.
    """
    needs = (
        *storage_of(lab, vm),
        *(vif.network for vif in lab.db.rows("VIF", vm.VIFs)),
        vm.VCPUs_max,
        vm.hardware_platform_version,
        vm.platform.get("vcpu-unrestricted"),
    )
    try:
        check_parameters(vm)
        if needs not in passed:
            for target in targets:
                check_can_boot(lab, vm, target.ref, memory=False)
            passed.add(needs)
    except XapiError as error:
        return error
    return None


def pack(lab: Lab, vms: list[Row], hosts: list[Row]) -> dict[str, Row]:
    """Put the largest VMs first, each on the host with most room left; some may stay out."""
    room = {host.ref: free_memory(lab, host) for host in hosts}
    placed: dict[str, Row] = {}
    for vm in sorted(vms, key=needed, reverse=True):
        host = max(hosts, key=lambda h: room[h.ref])
        if room[host.ref] >= needed(vm):
            room[host.ref] -= needed(vm)
            placed[vm.ref] = host
    return placed
