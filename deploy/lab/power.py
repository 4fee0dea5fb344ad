"""Power and toolstacks of machines, guests that end by themselves, and the coordinator's view of it.

What a power cut leaves behind: no domains, and a database that still says Running. What a crashed
toolstack leaves: domains that run on, and a host that answers nobody. A host that comes back
makes the database say what it really runs (FACTS 6; PROBES-FAIL, PROBES-POWER).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab import disk_locks, domains
from deploy.lab.classes import message as messages
from deploy.lab.classes.vm_lifecycle import is_live
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.guest import End, Guest
from deploy.lab.memory import free_memory
from deploy.lab.operations import ALLOWED, refresh
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

YOUNG = 120.0
"""A crash sooner after the start halts the VM whatever it asks for; a reboot waits (xenopsd)."""
REBOOT_DELAY = 15.0
MONITORED = 29 * 1024**2
"""What the monitor of a host shows as free above what the ledger does (recorded)."""
RESTARTS = {"restart", "coredump_and_restart", "rename_restart", "soft_reboot"}


class Power:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    # --- power

    def off(self, machine: Machine) -> None:
        """Cut the power, at once: guests die, nothing is written down."""
        if not machine.powered:
            return
        machine.powered = False
        machine.toolstack = False
        machine.emergency = False
        machine.life += 1
        machine.arriving.clear()
        for guest in list(machine.domains.values()):
            guest.kill()
        machine.domains.clear()
        self.lab.storage.attachments.lost(machine)
        self._abandon_calls(machine)
        machine.xenopsd.reset()
        machine.cut_connections()

    def on(self, machine: Machine) -> None:
        """Give power; the toolstack answers after `Durations.boot`."""
        if machine.powered:
            return
        machine.powered = True
        machine.life += 1
        machine.boots += 1
        machine.going_down = False
        self.lab.spawn(self._power_up(machine, machine.life))

    async def cut(self, machine: Machine) -> None:
        """Cut the power for certain: only when the machine is off does the lab say so."""
        await self.lab.backend.cut_power(machine)
        self.off(machine)

    async def _power_up(self, machine: Machine, life: int) -> None:
        await self.lab.backend.give_power(machine)
        if machine.life == life:
            await self._boot(machine, self.lab.config.durations.boot)

    # --- toolstack

    def crash_toolstack(self, machine: Machine) -> None:
        """The daemons die; domains run on and nobody answers for them."""
        if machine.powered and machine.toolstack:
            machine.emergency = False
            self.stop_daemons(machine)
            self._abandon_calls(machine)
            machine.cut_connections()

    def stop_daemons(self, machine: Machine) -> None:
        """Whoever worked on the machine's domains is gone, and half a domain goes with him."""
        machine.toolstack = False
        machine.life += 1
        machine.xenopsd.forget_work()
        for uuid, guest in list(machine.domains.items()):
            if not guest.is_whole:
                guest.kill()
                del machine.domains[uuid]
                self.lab.spawn(self.lab.backend.unmake(machine, guest))

    def _abandon_calls(self, machine: Machine) -> None:
        """What the coordinator was serving dies with it; what hosts do already they go on with."""
        if machine.is_coordinator:
            self.lab.tasks.abandon_all()

    def restart_toolstack(self, machine: Machine) -> None:
        """The daemons start (again); they answer after `Durations.toolstack`."""
        self.crash_toolstack(machine)
        if machine.powered:
            self.lab.spawn(self._boot(machine, self.lab.config.durations.toolstack))

    async def _boot(self, machine: Machine, seconds: float) -> None:
        life = machine.life
        await self.lab.clock.sleep(seconds)
        if machine.life == life and machine.powered:
            machine.toolstack = True
            await self.join_in(machine)

    async def join_in(self, machine: Machine) -> None:
        """The daemon's first work: make the database true again, then enable the host."""
        lab, life = self.lab, machine.life
        if machine.is_coordinator:
            forget_work(lab)
            lab.coordination.find_again()
        elif not (lab.coordinator.answers_coordinator and machine.answers_coordinator):
            lab.coordination.lose(machine)
            return
        lab.db.update(machine.host, enabled=False, current_operations={})
        disk_locks.clear_own_locks(lab, machine)
        self.hear(machine)
        self.resync(machine)
        await lab.clock.sleep(lab.config.durations.enable)
        if machine.life == life and machine.auto_enable:
            lab.db.update(machine.host, enabled=True)
        refresh(lab, machine.host)

    # --- what the coordinator knows

    def hear(self, machine: Machine) -> None:
        """A heartbeat arrived."""
        machine.last_heartbeat = self.lab.clock.now()
        metrics = self.lab.db.find("host_metrics", machine.host.metrics)
        if metrics is not None and not metrics.live:
            self.lab.db.update(metrics, live=True, last_updated=self.lab.clock.date())
            refresh(self.lab, machine.host)

    def watch(self) -> None:
        """The collector's pass: hosts silent for too long are not live any more."""
        lab = self.lab
        if not (lab.coordinator.powered and lab.coordinator.toolstack):
            return
        for machine in lab.machines.values():
            if machine.answers_coordinator and not machine.emergency:
                self.hear(machine)
                self._show_memory(machine)
                if machine.has_news:
                    self.resync(machine)
            elif lab.clock.now() - machine.last_heartbeat > lab.config.durations.live:
                self.declare_silent(machine)

    def _show_memory(self, machine: Machine) -> None:
        """What the host's monitor says is free."""
        host = machine.host
        metrics = self.lab.db.find("host_metrics", host.metrics)
        if metrics is not None:
            # The monitor's view of an empty host, where not all overheads count.
            free = free_memory(self.lab, host) + MONITORED
            self.lab.db.update(metrics, memory_free=free)

    def declare_silent(self, machine: Machine) -> None:
        metrics = self.lab.db.find("host_metrics", machine.host.metrics)
        if metrics is not None and metrics.live:
            self.lab.db.update(metrics, live=False)
            refresh(self.lab, machine.host)

    def resync(self, machine: Machine) -> None:
        """Make the database say what the machine really runs."""
        lab = self.lab
        machine.has_news = False
        for vm in lab.db.rows("VM", machine.host.resident_VMs):
            # A suspended one that is resident is being checkpointed: it has no domain for a while.
            has_one = is_live(vm) and not vm.is_control_domain
            if has_one and vm.uuid not in machine.domains:
                domains.show_halted(lab, vm)
        for uuid, guest in list(machine.domains.items()):
            if not guest.is_whole:
                continue
            known = lab.db.find("VM", lab.db.tables["VM"].by_uuid.get(uuid, NULL))
            if known is not None and known.power_state == "Halted":
                self.claim(machine, known, guest)
            if guest.ended is not None:
                self.guest_ended(machine, guest, guest.ended)

    def claim(self, machine: Machine, vm: Row, guest: Guest) -> None:
        """Say that the VM is the machine's, as its whole domain there shows."""
        lab, is_known = self.lab, is_live(vm)
        state = "Paused" if guest.paused else "Running"
        lab.db.update(vm, power_state=state, resident_on=machine.host.ref)
        if not is_known:
            domains.attach_devices(lab, vm, machine)
        domains.show_devices(lab, vm)
        refresh(lab, vm)

    # --- guests

    def guest_ended(self, machine: Machine, guest: Guest, reason: End) -> None:
        """A guest powered off, rebooted or crashed of its own accord."""
        self.lab.spawn(self._clear_up(machine, guest, reason))

    async def _clear_up(self, machine: Machine, guest: Guest, reason: End) -> None:
        try:
            async with machine.xenopsd.turn(guest.vm.uuid):
                if machine.domains.get(guest.vm.uuid) is guest:
                    await self._follow(machine, guest, reason)
        except XapiError:
            # The machine went down over it: what is left is settled when it comes back.
            machine.has_news = True

    async def _follow(self, machine: Machine, guest: Guest, reason: End) -> None:
        lab, vm = self.lab, guest.vm
        action = _action(vm, reason)
        young = lab.clock.now() - guest.started_at < YOUNG
        if reason == "crash":
            messages.post(
                lab, "VM_CRASHED", "VM", vm.uuid, f"VM '{vm.name_label}' (uuid: {vm.uuid}) crashed"
            )
            if young:
                action = "destroy"
        if action == "preserve":
            guest.paused = True
            lab.db.update(vm, power_state="Paused")
            refresh(lab, vm)
        elif action in RESTARTS:
            if reason == "reboot" and young:
                await machine.xenopsd.work(REBOOT_DELAY)
            await domains.rebuild(lab, vm, machine)
        else:
            await machine.xenopsd.work(lab.config.durations.stop)
            await lab.backend.unmake(machine, guest)
            machine.domains.pop(vm.uuid)
            if machine.answers_coordinator:
                domains.show_halted(lab, vm)
            else:
                machine.has_news = True


def _action(vm: Row, reason: End) -> str:
    field = {
        "poweroff": "actions_after_shutdown",
        "reboot": "actions_after_reboot",
        "crash": "actions_after_crash",
    }[reason]
    return str(vm.fields[field])


def forget_work(lab: Lab) -> None:
    """The coordinator's daemon starts: sessions, tasks and operations of before are gone."""
    lab.sessions.forget_all()
    lab.tasks.forget_all()
    for cls in ALLOWED:
        for row in lab.db.all(cls):
            if row.current_operations:
                lab.db.update(row, current_operations={})
                refresh(lab, row)
