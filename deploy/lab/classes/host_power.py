"""Hosts going down, coming up, and being given up (FACTS 6; recorded: PROBES-POWER, PROBES-FAIL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab import disk_locks, domains
from deploy.lab.classes.host_operations import check_operation
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.operations import operation, refresh
from deploy.lab.placement import is_live

if TYPE_CHECKING:
    from deploy.lab.machine import Machine


@message("host.shutdown")
async def shutdown(call: Call, host: Row) -> None:
    await _go_down(call, host, "shutdown", comes_back=False)


@message("host.reboot")
async def reboot(call: Call, host: Row) -> None:
    await _go_down(call, host, "reboot", comes_back=True)


async def _go_down(call: Call, host: Row, op: str, *, comes_back: bool) -> None:
    """Answer at once; the machine goes down a little later. Raises HOST_NOT_DISABLED."""
    async with operation(call, host, op, check_operation):
        machine = await forward(call, host.ref)
        machine.going_down = True
    # While it is on its way down the host shows the operation `shutdown`, also for a reboot
    # (recorded: PROBES-POWER).
    key = f"{call.task}|going-down"
    call.db.update(host, current_operations={**host.current_operations, key: "shutdown"})
    refresh(call.lab, host)
    call.lab.spawn(_power_down(call.lab.machine(host.ref), comes_back=comes_back))


async def _power_down(machine: Machine, *, comes_back: bool) -> None:
    lab, life = machine.lab, machine.life
    await lab.clock.sleep(lab.config.durations.power_action)
    if machine.life != life:
        return
    lab.power.declare_silent(machine)
    await lab.power.cut(machine)
    if comes_back:
        machine.power_on()


@message("host.power_on")
async def power_on(call: Call, host: Row) -> None:
    """Raises HOST_IS_LIVE, HOST_POWER_ON_MODE_DISABLED."""
    async with operation(call, host, "power_on", check_operation):
        call.lab.machine(host.ref).power_on()


@message("host.set_power_on_mode")
def set_power_on_mode(
    call: Call, host: Row, power_on_mode: str, power_on_config: dict[str, str]
) -> None:
    call.db.update(host, power_on_mode=power_on_mode, power_on_config=power_on_config)
    refresh(call.lab, host)


@message("host.declare_dead")
async def declare_dead(call: Call, host: Row) -> None:
    """Believe the caller that the host is dead: its VMs become Halted. Raises HOST_IS_LIVE."""
    await _check_dead(call, host)
    for vm in call.db.rows("VM", host.resident_VMs):
        if not vm.is_control_domain:
            domains.force_halted(call.lab, vm)
    call.db.update(host, enabled=False)
    disk_locks.reset_locks(call.lab, host)
    refresh(call.lab, host)


async def _check_dead(call: Call, host: Row) -> None:
    """Raise HOST_IS_LIVE [host] if it is the coordinator or answers when it is asked."""
    machine = call.lab.machine(host.ref)
    if machine.is_coordinator:
        raise XapiError("HOST_IS_LIVE", host.ref)
    if not is_live(call.lab, host):
        return
    if not machine.answers_coordinator:
        await call.lab.clock.sleep(call.lab.config.durations.declare_dead)
    if machine.answers_coordinator:
        raise XapiError("HOST_IS_LIVE", host.ref)


@message("host.destroy")
async def destroy(call: Call, host: Row) -> None:
    """Forget a dead host and all that belonged to it. Raises HOST_HAS_RESIDENT_VMS."""
    await _check_dead(call, host)
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    dom0 = host.control_domain
    if any(vm != dom0 for vm in host.resident_VMs):
        raise XapiError("HOST_HAS_RESIDENT_VMS", host.ref)
    remove(call, host)


def remove(call: Call, host: Row) -> None:
    """Delete the host's record, its devices and its control domain."""
    db = call.db
    for cls, refs in (
        ("PBD", host.PBDs),
        ("PIF", host.PIFs),
        ("host_cpu", host.host_CPUs),
        ("host_metrics", [host.metrics]),
        ("VM", [host.control_domain]),
    ):
        for row in db.rows(cls, list(refs)):
            if cls == "VM":
                domains.remove_consoles(call.lab, row)
                for metrics in db.rows("VM_metrics", [row.metrics]):
                    db.delete(metrics)
            db.delete(row)
    db.delete(host)
    call.lab.machines.pop(host.ref, None)
