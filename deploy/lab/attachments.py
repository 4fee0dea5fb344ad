"""Which machine really has which disk open, and for whom, whatever the database says.

A power cut closes what a machine had open and writes nothing down; a crashed toolstack leaves
everything open. Two machines that can write the same disk are reported to the detector.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.detector import Violation
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

Mode = Literal["RO", "RW"]


class Attachments:
    """Belongs to one lab; kept by `Storage`. Disks, hosts and VMs go by uuid.

    A user is a VM's uuid, or any other text for work of a host itself.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._open: dict[str, dict[str, dict[str, Mode]]] = {}
        """VDI → host → user → mode."""
        self._on: dict[str, set[str]] = defaultdict(set)
        """Host → VDIs open there."""
        self._by: dict[str, set[tuple[str, str]]] = defaultdict(set)
        """User → (host, VDI)."""

    @property
    def violations(self) -> list[Violation]:
        return [v for v in self.lab.detector.violations if v.kind == "disk_written_twice"]

    def opened(self, machine: Machine, vdi: Row, mode: Mode, user: str) -> None:
        host = machine.host.uuid
        self._note(host, vdi.uuid, mode, user)
        if mode == "RW" and len(self._open[vdi.uuid]) > 1 and not vdi.sharable:
            writers = self.writers(vdi.uuid)
            if len(writers) > 1:
                self.lab.detector.report("disk_written_twice", vdi.uuid, writers)

    def _note(self, host: str, vdi: str, mode: Mode, user: str) -> None:
        self._open.setdefault(vdi, {}).setdefault(host, {})[user] = mode
        self._on[host].add(vdi)
        self._by[user].add((host, vdi))

    def closed(self, machine: Machine, vdi: str, user: str) -> None:
        """The user on the machine has closed the disk. Nothing to close is no error."""
        self._forget(machine.host.uuid, vdi, user)

    def lost(self, machine: Machine) -> None:
        """The machine has no power: nothing is open there any more."""
        host = machine.host.uuid
        for vdi in list(self._on[host]):
            for user in list(self._open[vdi][host]):
                self._forget(host, vdi, user)

    def _forget(self, host: str, vdi: str, user: str) -> None:
        there = self._open.get(vdi, {}).get(host)
        if there is None or user not in there:
            return
        del there[user]
        self._by[user].discard((host, vdi))
        if not self._by[user]:
            del self._by[user]
        if not there:
            del self._open[vdi][host]
            self._on[host].discard(vdi)
        if not self._open[vdi]:
            del self._open[vdi]

    def of(self, user: str) -> list[tuple[Machine, str]]:
        """Where the user has disks open: (machine, VDI)."""
        machines = {}
        if user in self._by:
            machines = {m.host.uuid: m for m in self.lab.machines.values()}
        return [(machines[host], vdi) for host, vdi in self._by.get(user, ()) if host in machines]

    def mode(self, machine: Machine, vdi: str) -> Mode | None:
        """How the disk is open on the machine; None when it is not."""
        there = self._open.get(vdi, {}).get(machine.host.uuid)
        if there is None:
            return None
        return "RW" if "RW" in there.values() else "RO"

    def is_open(self, machine: Machine, vdi: str) -> bool:
        return self.mode(machine, vdi) is not None

    def writers(self, vdi: str) -> set[str]:
        """Names of the hosts that can write the disk."""
        return {m.name for m in self.lab.machines.values() if self.mode(m, vdi) == "RW"}

    def describe(self) -> list[list[str]]:
        return [
            [host, vdi, mode, user]
            for vdi, hosts in self._open.items()
            for host, users in hosts.items()
            for user, mode in users.items()
        ]

    def restore(self, attachments: list[list[Any]]) -> None:
        for host, vdi, mode, user in attachments:
            self._note(host, vdi, mode, user)
