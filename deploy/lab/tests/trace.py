"""What happened to each VM of a lab, to be read when one runs twice, or is said to run nowhere."""

from __future__ import annotations

from collections import deque
from typing import Any

from deploy.lab.classes.vm_lifecycle import is_live
from deploy.lab.database import Row
from deploy.lab.lab import Lab

LINES_KEPT = 20_000
_FIELDS = ("power_state", "resident_on", "current_operations")


class Trace:
    """Watches one lab. `excerpts` holds what led to each thing that must not be."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.excerpts: list[str] = []
        self.arrivals = 0
        """How often a VM began to run on a machine: started, resumed, rebooted or moved."""
        self._lines: deque[tuple[str, str]] = deque(maxlen=LINES_KEPT)
        self._shown: dict[str, tuple[Any, ...]] = {}
        lab.db.watchers.append(self._changed)
        lab.detector.watchers.append(self._seen)

    def note(self, what: str, *about: Any) -> None:
        """Something was asked or answered, with these arguments; VMs among them are found."""
        for value in about:
            row = self.lab.db.tables["VM"].rows.get(value) if isinstance(value, str) else None
            if row is not None:
                self._add(row.uuid, what)

    def note_machine(self, what: str) -> None:
        """Something happened to a machine, and so to all VMs."""
        self._add("", what)

    def excerpt(self, uuid: str) -> str:
        lines = [line for about, line in self._lines if about in (uuid, "")]
        return "\n".join(lines[-150:])

    def _add(self, uuid: str, what: str) -> None:
        self._lines.append((uuid, f"{self.lab.clock.now() % 1e6:.2f} {what}"))

    def _changed(self, row: Row, operation: str) -> None:
        if row.cls != "VM":
            return
        state = tuple(row.fields[name] for name in _FIELDS)
        if operation == "del":
            self._shown.pop(row.ref, None)
            self._add(row.uuid, "record deleted")
        elif self._shown.get(row.ref) != state:
            self._shown[row.ref] = state
            host = self.lab.machines.get(row.resident_on)
            where = host.name if host is not None else "-"
            operations = " ".join(row.current_operations.values())
            self._add(row.uuid, f"database: {row.power_state} at {where} [{operations}]")
            if host is None and is_live(row):
                self._add(row.uuid, f"{row.power_state} and resident nowhere")
                self.excerpts.append(self.excerpt(row.uuid))

    def _seen(self, uuid: str, what: str) -> None:
        self._add(uuid, what)
        self.arrivals += what.startswith("runs on") and not what.endswith("no more")
        if what.startswith("Violation"):
            self.excerpts.append(self.excerpt(uuid))
