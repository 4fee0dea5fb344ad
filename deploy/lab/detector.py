"""The double-run detector: always on, and it only believes what really runs.

Records what must never happen: a VM running on two machines at once, a disk open for writing on
two machines at once. It watches `Machine.domains` and the machines' attachments, never the
database, since the database is what recovery gets wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine


@dataclass(frozen=True)
class Violation:
    kind: str
    """`vm_runs_twice` or `disk_written_twice`."""
    uuid: str
    """Of the VM or the VDI."""
    hosts: tuple[str, ...]
    at: float
    """Lab time, seconds since the epoch."""


class Detector:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.violations: list[Violation] = []
        self.watchers: list[Callable[[str, str], None]] = []
        """Told what was seen of which uuid, violations included."""
        self._running: dict[str, set[str]] = defaultdict(set)

    def started(self, machine: Machine, uuid: str) -> None:
        self._tell(uuid, f"runs on {machine.name}")
        self._running[uuid].add(machine.name)
        if len(self._running[uuid]) > 1:
            self.report("vm_runs_twice", uuid, self._running[uuid])

    def stopped(self, machine: Machine, uuid: str) -> None:
        self._tell(uuid, f"runs on {machine.name} no more")
        self._running[uuid].discard(machine.name)
        if not self._running[uuid]:
            del self._running[uuid]

    def report(self, kind: str, uuid: str, hosts: set[str]) -> None:
        violation = Violation(kind, uuid, tuple(sorted(hosts)), self.lab.clock.now())
        self.violations.append(violation)
        self._tell(uuid, str(violation))

    def _tell(self, uuid: str, what: str) -> None:
        for watcher in self.watchers:
            watcher(uuid, what)


class Domains(dict[str, Any]):
    """VM uuid → guest, of one machine; tells the detector of every domain made or gone."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def __setitem__(self, uuid: str, guest: Any) -> None:
        super().__setitem__(uuid, guest)
        self._machine.lab.detector.started(self._machine, uuid)

    def __delitem__(self, uuid: str) -> None:
        super().__delitem__(uuid)
        self._machine.lab.detector.stopped(self._machine, uuid)

    def pop(self, uuid: str, default: Any = None) -> Any:
        if uuid not in self:
            return default
        guest = self[uuid]
        del self[uuid]
        return guest

    def clear(self) -> None:
        for uuid in list(self):
            del self[uuid]
