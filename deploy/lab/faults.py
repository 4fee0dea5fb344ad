"""Faults injected into a lab, and the rules by which requests meet them (XAPI.md 8.4)."""

from __future__ import annotations

import fnmatch
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deploy.lab.database import Row
from deploy.lab.errors import XapiError

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

Action = Literal["drop_before", "drop_after", "delay", "error"]


class ConnectionDropped(Exception):
    """The fault asks for the client's connection to be cut without an answer."""


@dataclass
class Rule:
    """Meet the next `times` calls whose name matches `method` with `action`."""

    id: int
    method: str
    action: Action
    times: int
    seconds: float = 0.0
    error: tuple[str, ...] = ()
    host: str = "*"


class Faults:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.rules: list[Rule] = []
        self.failing_imports = 0
        """How many of the next uploads fail after their 200 has been sent."""
        self.redirected_imports = 0
        """How many of the next uploads are sent to another host that sees the SR too."""
        self._ids = itertools.count(1)

    def inject(
        self,
        method: str,
        action: Action,
        *,
        times: int = 1,
        seconds: float = 0.0,
        error: tuple[str, ...] = (),
        host: str = "*",
    ) -> Rule:
        """Add a rule. `method` and `host` are shell patterns, `seconds` lab time.

        Other requests than calls are named as `PUT /import_raw_vdi`.
        """
        rule = Rule(next(self._ids), method, action, times, seconds, error, host)
        self.rules.append(rule)
        return rule

    def tell_guest(self, machine: Machine, vm: str, action: str) -> None:
        """Have the guest of a VM (a uuid) crash, exit, reboot or ignore_shutdown."""
        machine.domains[vm].tell(action)

    def clear(self) -> None:
        """Forget every fault that has not been met yet."""
        self.rules.clear()
        self.failing_imports = self.redirected_imports = 0

    def _take(self, method: str, host: str, *actions: Action) -> Rule | None:
        for rule in self.rules:
            if (
                rule.action in actions
                and fnmatch.fnmatchcase(method, rule.method)
                and fnmatch.fnmatchcase(host, rule.host)
            ):
                rule.times -= 1
                if rule.times <= 0:
                    self.rules.remove(rule)
                return rule
        return None

    async def before(self, method: str, host: str) -> None:
        """Meet a call before it is executed. Raises ConnectionDropped or XapiError."""
        if not self.rules:
            return
        rule = self._take(method, host, "drop_before", "delay", "error")
        if rule is None:
            return
        if rule.action == "drop_before":
            raise ConnectionDropped
        if rule.action == "delay":
            await self.lab.clock.sleep(rule.seconds)
        else:
            raise XapiError(*rule.error)

    def after(self, method: str, host: str) -> None:
        """Meet a call after it was executed: its answer may be lost."""
        if self.rules and self._take(method, host, "drop_after") is not None:
            raise ConnectionDropped

    def take_failing_import(self) -> bool:
        """True when this upload is to fail."""
        if self.failing_imports <= 0:
            return False
        self.failing_imports -= 1
        return True

    def take_redirected_import(self) -> bool:
        """True when this upload is to be sent elsewhere."""
        if self.redirected_imports <= 0:
            return False
        self.redirected_imports -= 1
        return True

    def overflow_events(self) -> None:
        """Forget every deletion, as happens when more than 512 of a class come between two calls.

        A follower that was away misses them, and can tell only by `valid_ref_counts`.
        """
        for table in self.lab.db.tables.values():
            table.deletions.clear()

    def leave_free(self, sr: Row, free_bytes: int) -> None:
        """Make the storage repository as small as leaves this much room on it."""
        self.lab.db.update(sr, physical_size=sr.physical_utilisation + free_bytes)

    def hold_lock(self, sr: Row, seconds: float) -> None:
        """Keep the backend of the storage repository busy: whatever needs it waits."""
        self.lab.spawn(self._hold_lock(sr.ref, seconds))

    async def _hold_lock(self, sr: str, seconds: float) -> None:
        async with self.lab.storage.working(sr, seconds):
            pass
