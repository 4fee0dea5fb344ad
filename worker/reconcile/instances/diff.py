"""Which instances are not as wished, and what is to be begun. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

SHORTEST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)
# One that ran for so long does not count as falling over and over.
STEADY = timedelta(minutes=10)


class Act(StrEnum):
    """Kinds of operations."""

    PROVISION = "instance.provision"
    START = "instance.start"
    STOP = "instance.stop"
    TEARDOWN = "instance.teardown"
    ADOPT = "instance.adopt"


@dataclass(frozen=True, slots=True)
class View:
    """An instance that nothing is being done with.

    `host`: where the ledger has it; `resident_on`: where its VM is seen to run. `power_state`: None when its pool has no VM of it. `is_known`: that was seen after the last operation
    ended. `was_taken_over`: a recovery ended the last one. `exit_code`: as the guest told it, if it did.
    """

    uuid: UUID
    desired_state: str
    restart_policy: str
    is_published: bool
    host: UUID | None
    power_state: str | None
    is_known: bool
    resident_on: UUID | None = None
    was_taken_over: bool = False
    exit_code: int | None = None
    restarts: int = 0
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """`restarts`: how often it fell in a row, this time included; None: that is not what this is."""

    instance: UUID
    act: Act
    restarts: int | None = None


def diff(views: Iterable[View], now: datetime) -> Iterator[Begin]:
    for view in views:
        begin = _of(view, now)
        if begin is not None:
            yield begin


def _of(view: View, now: datetime) -> Begin | None:
    if view.desired_state == "deleted":
        return Begin(view.uuid, Act.TEARDOWN)
    if not view.is_published:
        again = view.desired_state == "running" and view.was_taken_over
        return Begin(view.uuid, Act.PROVISION) if again else None
    if not view.is_known:
        return None
    runs = view.power_state == "Running"
    if is_lost(view):
        return None
    if view.desired_state == "stopped":
        return Begin(view.uuid, Act.STOP) if runs or view.host else None
    if runs:
        strayed = view.resident_on not in (None, view.host)
        return Begin(view.uuid, Act.ADOPT) if strayed else None
    return _fallen(view, now)


def is_lost(view: View) -> bool:
    """The ledger has it running, and its pool has no VM of it: it may run unseen (XAPI.md 6.5)."""
    return (
        view.is_published and view.is_known and view.host is not None and view.power_state is None
    )


def _fallen(view: View, now: datetime) -> Begin | None:
    """It should run and does not: it ended by itself, or was ended without our wish."""
    if not _comes_back(view):
        return Begin(view.uuid, Act.STOP) if view.host else None
    ran = now - view.started_at if view.started_at is not None else STEADY
    fallen = 0 if ran >= STEADY else view.restarts
    if ran < pause_after(fallen):
        return None
    return Begin(view.uuid, Act.START, fallen + 1)


def _comes_back(view: View) -> bool:
    """What did not say how it ended has failed."""
    if view.restart_policy == "on-failure":
        return view.exit_code != 0
    return view.restart_policy == "always"


def pause_after(restarts: int) -> timedelta:
    """Between one start and the next, when it fell so often in a row."""
    doubled: int = 2 ** min(restarts, 10)
    return min(SHORTEST_PAUSE * doubled, LONGEST_PAUSE)
