"""High availability: how many host failures the protected VMs would survive, and acting on one.

A VM is protected when it is to run always with restart priority `restart`. With HA on, a host that
falls silent for `HEARTBEAT_TIMEOUT` is certainly off (it fences itself), so its VMs are restarted
elsewhere. Facts: FACTS 11 (xapi_ha_vm_failover.ml); recorded: ha_settings, PROBES-HA.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deploy.lab import disk_locks, domains
from deploy.lab.classes import message as messages
from deploy.lab.classes.vm_reset import check_agile
from deploy.lab.classes.wiring import is_protected
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, execute
from deploy.lab.errors import XapiError
from deploy.lab.memory import free_memory, needed
from deploy.lab.placement import is_live
from deploy.lab.schema import SCHEMA

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

HEARTBEAT_TIMEOUT = 30.0
PLAN_PERIOD = 30.0
RESTART, BEST_EFFORT = "restart", "best-effort"


# --- planning


def protected_vms(lab: Lab) -> list[Row]:
    return [vm for vm in lab.db.all("VM") if vm.ha_restart_priority and is_protected(vm)]


def hosts_for_plan(lab: Lab) -> list[Row]:
    return [host for host in lab.db.all("host") if host.enabled and is_live(lab, host)]


def most_failures(lab: Lab, vms: list[Row], hosts: list[Row] | None = None) -> int:
    """The largest number of host failures, whichever hosts, that leaves all `vms` running."""
    hosts = hosts_for_plan(lab) if hosts is None else hosts
    if not vms:
        return len(hosts)
    if not all(_is_agile(lab, vm) for vm in vms):
        return 0
    left = sorted(_room_without(lab, host, vms) for host in hosts)
    for failures in range(len(hosts) - 1, 0, -1):
        # The worst case: the hosts with most room are the ones that fail.
        if fits(vms, left[: len(hosts) - failures]):
            return failures
    return 0


def _room_without(lab: Lab, host: Row, vms: list[Row]) -> int:
    moved = sum(needed(vm) for vm in vms if vm.resident_on == host.ref)
    return free_memory(lab, host) + moved


def fits(vms: Iterable[Row], rooms: Iterable[int]) -> bool:
    """Whether the VMs' memory can be packed into the rooms (largest first, tightest fit)."""
    left = list(rooms)
    for vm in sorted(vms, key=needed, reverse=True):
        wanted = needed(vm)
        fitting = [room for room in left if room >= wanted]
        if not fitting:
            return False
        tightest = min(fitting)
        left.remove(tightest)
        left.append(tightest - wanted)
    return True


def _is_agile(lab: Lab, vm: Row) -> bool:
    try:
        check_agile(lab, vm)
    except XapiError:
        return False
    return True


def refresh_plan(lab: Lab) -> None:
    """Write into the pool how many failures there is a plan for."""
    pool = lab.pool
    if not pool.ha_enabled:
        return
    most = most_failures(lab, protected_vms(lab))
    wanted = pool.ha_host_failures_to_tolerate
    lab.db.update(pool, ha_plan_exists_for=min(most, wanted), ha_overcommitted=wanted > most)


def check_plan(lab: Lab, *, without: Row | None = None, adding: Row | None = None) -> None:
    """Raise HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN if a plan that exists would not any more.

    `without` is a host about to be disabled, `adding` a VM about to be protected.
    """
    pool = lab.pool
    if not pool.ha_enabled or pool.ha_allow_overcommit:
        return
    wanted = pool.ha_host_failures_to_tolerate
    vms = protected_vms(lab)
    if most_failures(lab, vms) < wanted:
        return
    if adding is not None and adding not in vms:
        if not _is_agile(lab, adding):
            raise XapiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")
        vms = [*vms, adding]
    hosts = [host for host in hosts_for_plan(lab) if host is not without]
    # A disabled host is one failure the less to expect of the others.
    if most_failures(lab, vms, hosts) < wanted:
        raise XapiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")


# --- failures


class Failover:
    """Watches a pool that has HA on. Belongs to one lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.restarts_from = 0.0
        """Nothing is restarted before this moment (pool.ha_prevent_restarts_for)."""
        self._failed: set[str] = set()
        self._planned_at = 0.0
        self._is_running = False

    async def run(self) -> None:
        """Look at the hosts every second of lab time while HA is on. Once is enough."""
        if self._is_running:
            return
        self._is_running = True
        try:
            await self._run()
        finally:
            self._is_running = False

    async def _run(self) -> None:
        while self.lab.pool.ha_enabled:
            await self.look()
            if self.lab.clock.now() - self._planned_at >= PLAN_PERIOD:
                self._planned_at = self.lab.clock.now()
                refresh_plan(self.lab)
            await self.lab.clock.sleep(1.0)

    async def look(self) -> None:
        """Fence whoever is cut off, then recover from every new failure."""
        lab = self.lab
        lost = [machine for machine in lab.machines.values() if self._is_lost(machine)]
        for machine in lost:
            # A host that cannot see the others stops itself before they give it up.
            await lab.power.cut(machine)
        new = [machine for machine in lost if machine.host.ref not in self._failed]
        self._failed = {machine.host.ref for machine in lost}
        # All of them at once, as long as they are certainly off: what follows takes its time, in
        # which they may come back and be given VMs again.
        vms = [self._give_up(machine) for machine in new]
        if any(machine.is_coordinator for machine in lost):
            await self._elect()
        for lost_with_one in vms:
            await self._recover(lost_with_one)

    def _is_lost(self, machine: Machine) -> bool:
        if machine.powered and not machine.isolated:
            machine.last_heartbeat = self.lab.clock.now()
            return False
        silent = self.lab.clock.now() - machine.last_heartbeat
        return (not machine.powered and machine.going_down) or silent > HEARTBEAT_TIMEOUT

    async def _elect(self) -> None:
        """Another host takes the pool over; the redo log has kept its database."""
        for machine in self.lab.machines.values():
            may = machine.powered and machine.toolstack and not machine.isolated
            if may and not machine.is_coordinator:
                await self.lab.coordination.become_coordinator(machine, has_redo_log=True)
                return

    def _give_up(self, machine: Machine) -> list[Row]:
        """Say that the host has failed; answers the VMs that were lost with it."""
        lab = self.lab
        lab.power.declare_silent(machine)
        host = machine.host
        messages.post(
            lab, "HA_HOST_FAILED", "Host", host.uuid, f"Server '{host.name_label}' has failed"
        )
        lost = self.reset(machine)
        refresh_plan(lab)
        return lost

    async def _recover(self, lost: list[Row]) -> None:
        """Start again what is to run, once that is not held back."""
        lab = self.lab
        await lab.clock.sleep(max(0.0, self.restarts_from - lab.clock.now()))
        wanted = [vm for vm in lost if is_protected(vm)]
        wanted += [vm for vm in lost if vm.ha_restart_priority == BEST_EFFORT]
        wanted.sort(key=lambda vm: (vm.ha_restart_priority == BEST_EFFORT, vm.order))
        for vm in wanted:
            await self._restart(vm)

    def reset(self, machine: Machine) -> list[Row]:
        """Every VM of the host is halted in the database, protected or not, whatever it runs."""
        resident = self.lab.db.rows("VM", machine.host.resident_VMs)
        lost = [vm for vm in resident if not vm.is_control_domain]
        for vm in lost:
            domains.force_halted(self.lab, vm)
        # The hook that runs for a fenced host frees its disks (host-post-declare-dead).
        disk_locks.reset_locks(self.lab, machine.host)
        return lost

    async def _restart(self, vm: Row) -> None:
        lab = self.lab
        call = Call(lab, lab.coordinator, SCHEMA.messages["VM.start"])
        lab.tasks.open(call)
        try:
            await execute(call, [vm.ref, False, True])
        except XapiError as error:
            if vm.ha_restart_priority == RESTART:
                body = f"Failed to restart protected VM '{vm.name_label}': {error.code}"
                messages.post(lab, "HA_PROTECTED_VM_RESTART_FAILED", "VM", vm.uuid, body)
        finally:
            lab.tasks.forget(call)
        await lab.clock.sleep(vm.start_delay)
