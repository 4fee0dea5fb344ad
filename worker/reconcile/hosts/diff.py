"""Which hosts need an operation that they have not got. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Act(StrEnum):
    RECOVER = "host.recover"
    EVACUATE = "host.evacuate"


@dataclass(frozen=True, slots=True)
class View:
    """`is_suspect`: judged so now (worker/liveness). `doing`: kind of its operation, if it has one."""

    uuid: UUID
    state: str
    is_suspect: bool = False
    doing: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    host: UUID
    act: Act


def diff(views: Iterable[View]) -> Iterator[Begin]:
    """A suspicion comes before whatever is being done with the host; the rest waits for that to end."""
    for view in views:
        if view.doing == Act.RECOVER:
            continue
        if view.is_suspect or (view.doing is None and view.state in ("suspect", "fenced")):
            yield Begin(view.uuid, Act.RECOVER)
        elif view.doing is None and view.state == "draining":
            yield Begin(view.uuid, Act.EVACUATE)
