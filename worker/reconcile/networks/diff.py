"""Which of tenants' networks have to be completed in their pools, and which may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

IDLE = timedelta(hours=1)


class Act(StrEnum):
    BUILD = "network.build"
    REMOVE = "network.remove"


@dataclass(frozen=True, slots=True)
class View:
    """A network in a pool. `hosts`: where it was looked after. `idle_for`: None while an instance is on it."""

    segment: UUID
    hosts: frozenset[UUID]
    is_made: bool
    is_retired: bool
    idle_for: timedelta | None


def diff(views: Iterable[View], live: Collection[UUID]) -> Iterator[tuple[UUID, Act]]:
    """`live`: the hosts of their pool that are there and answer."""
    for view in views:
        if view.is_retired or (view.idle_for is not None and view.idle_for >= IDLE):
            yield view.segment, Act.REMOVE
        elif view.is_made and not set(live) <= view.hosts:
            yield view.segment, Act.BUILD
