"""Who is the pool's coordinator: copies of the database, losing it, choosing another.

Members hold a copy of the database that is at most 300 s old (`pool_db_sync_interval`). When the
coordinator dies nobody takes over: members restart in emergency mode, in which only a few calls
answer, until one is told to become the coordinator; it goes on from its copy, so the newest
objects may be unknown to it though their domains run (XAPI.md 6.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.database import Snapshot
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.power import forget_work
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

SYNC_INTERVAL = 300.0
EMERGENCY_AFTER = 60.0
TOOLSTACK_RESTART = 10.0


class Coordination:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.copy: Snapshot = lab.db.snapshot()
        """What every member has of the database."""
        self.copied_at = lab.clock.now()
        self._lost_at: float | None = None

    def sync(self) -> None:
        """Give every member a fresh copy of the database."""
        self.copy = self.lab.db.snapshot()
        self.copied_at = self.lab.clock.now()

    def watch(self) -> None:
        """The periodic pass: copies of the database, emergency mode of members left alone."""
        now = self.lab.clock.now()
        coordinator = self.lab.coordinator
        # Whether clients reach it is no matter: members talk to it by themselves.
        if coordinator.powered and coordinator.toolstack and not coordinator.isolated:
            self.find_again()
            if now - self.copied_at >= SYNC_INTERVAL:
                self.sync()
            return
        if self._lost_at is None:
            self._lost_at = now
        if now - self._lost_at >= EMERGENCY_AFTER:
            for machine in self.lab.machines.values():
                if machine.powered and not machine.is_coordinator and not machine.emergency:
                    self.lose(machine)

    def lose(self, member: Machine) -> None:
        """A member cannot reach its coordinator: it keeps looking for that one, and no other."""
        member.emergency = True
        member.looks_for = self.lab.coordinator

    def find_again(self) -> None:
        """Members that look for this coordinator follow it again; of a new one they are told."""
        self._lost_at = None
        for member in self.lab.machines.values():
            found = member.emergency and member.looks_for is self.lab.coordinator
            if found and member.answers_coordinator:
                self.rejoin(member)

    async def become_coordinator(self, machine: Machine, *, has_redo_log: bool = False) -> None:
        """Take over from this machine's copy of the database; its toolstack restarts first.

        With the redo log of high availability the copy is as new as can be.
        """
        self.lab.power.stop_daemons(machine)
        await self.lab.clock.sleep(TOOLSTACK_RESTART)
        machine.toolstack = True
        if self.lab.coordinator is not machine:
            if has_redo_log:
                self.sync()
            self.lab.db.restore(self.copy)
            forget_work(self.lab)
            self.lab.spawn(self.lab.storage.known.scan_all())
        machine.emergency = False
        self.switch(machine)
        followers = [
            member
            for member in self.lab.machines.values()
            if member.answers_coordinator and not member.emergency
        ]
        for member in followers:
            self.adopt(member)
        for member in followers:
            # What had moved to another of them is that one's by now, and does not count as ended.
            self.lab.power.resync(member)

    def switch(self, machine: Machine) -> None:
        """Make `machine` the coordinator of the database as it is now."""
        self.lab.coordinator = machine
        self._lost_at = None
        self.lab.db.update(self.lab.pool, master=machine.host.ref)

    def adopt(self, member: Machine) -> None:
        """A member follows the coordinator again: what it runs becomes what the database says."""
        member.emergency = False
        for uuid, guest in member.domains.items():
            vm = self.lab.db.find("VM", self.lab.db.tables["VM"].by_uuid.get(uuid, NULL))
            if guest.is_whole and vm is not None:
                self.lab.power.claim(member, vm, guest)

    def rejoin(self, member: Machine) -> None:
        """A member that was left alone follows the coordinator: its toolstack begins again."""
        self.adopt(member)
        self.lab.spawn(self.lab.power.join_in(member))


@message("pool.sync_database")
def sync_database(call: Call) -> None:
    call.lab.coordination.sync()


@message("pool.is_slave")
def is_slave(call: Call, host: str) -> bool:
    return not call.machine.is_coordinator


@message("host.is_in_emergency_mode")
def is_in_emergency_mode(call: Call) -> bool:
    return call.machine.emergency


@message("pool.emergency_transition_to_master")
def emergency_transition_to_master(call: Call) -> None:
    if call.db.all("pool")[0].ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    call.lab.spawn(call.lab.coordination.become_coordinator(call.machine))


@message("pool.emergency_reset_master")
def emergency_reset_master(call: Call, master_address: str) -> None:
    if call.db.all("pool")[0].ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    call.lab.spawn(_follow(call, master_address))


async def _follow(call: Call, address: str) -> None:
    call.lab.power.stop_daemons(call.machine)
    await call.lab.clock.sleep(TOOLSTACK_RESTART)
    call.machine.toolstack = True
    if call.lab.coordinator.address == address:
        call.lab.coordination.rejoin(call.machine)


@message("pool.recover_slaves")
def recover_slaves(call: Call) -> list[str]:
    """The hosts that took the new coordinator's address."""
    recovered = []
    for machine in call.lab.machines.values():
        if machine.answers_coordinator and machine.emergency:
            call.lab.coordination.rejoin(machine)
            recovered.append(machine.host.ref)
    return recovered
