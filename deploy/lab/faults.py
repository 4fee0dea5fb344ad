"""Faults injected into a lab, and the rules by which requests meet them (XAPI.md 8.4)."""

from __future__ import annotations

import fnmatch
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deploy.lab.errors import XapiError

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

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
        """Add a rule. `method` and `host` are shell patterns, `seconds` lab time."""
        rule = Rule(next(self._ids), method, action, times, seconds, error, host)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        self.rules.clear()

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
