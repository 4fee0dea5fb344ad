"""Differences that stay, and why. They are printed as known and still do not count as agreeing.

Only what is not the daemon's own answer, or what the lab does not serve, belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.lab.replay.player import StepResult


@dataclass(frozen=True)
class Accepted:
    """One step's known differences: all of them lie below `paths`."""

    scenario: str
    step: str
    paths: tuple[str, ...]
    reason: str


ACCEPTED: tuple[Accepted, ...] = ()


def reason_for(scenario: str, step: StepResult) -> str | None:
    """Why a step differs, if every one of its differences is known."""
    entries = [e for e in ACCEPTED if (e.scenario, e.step) == (scenario, step.index)]
    prefixes = tuple(path for entry in entries for path in entry.paths)
    if not prefixes or not all(d.path.startswith(prefixes) for d in step.differences):
        return None
    return "; ".join(entry.reason for entry in entries)
