"""What is asked of placement, what it looks at, and what it answers. Sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from uuid import UUID

MIB = 2**20
_PAGES_IN_MIB = 256


def overhead_bytes(*, vcpus: int, memory_bytes: int) -> int:
    """What the hypervisor takes beside an HVM guest's own memory (xapi memory.ml, XAPI.md 5.3)."""
    shadow = max(1, _mib_of_pages(256 * vcpus + 2 * (memory_bytes // MIB)))
    return (2 + shadow + _mib_of_pages(38 * vcpus)) * MIB


def _mib_of_pages(pages: int) -> int:
    return -(-pages // _PAGES_IN_MIB)


@dataclass(frozen=True, slots=True)
class HostView:
    """A host at one moment. `free_bytes` is what nobody has reserved.

    `neighbours`: how many instances of each group it has; a group is whatever is better spread, such
    as a tenant. `is_warm`: it keeps the place asked for, and a VM that has booted there.
    """

    uuid: UUID
    name: str
    free_bytes: int
    accepting: bool = True
    cpu_count: int = 1
    srs: frozenset[UUID] = frozenset()
    neighbours: Mapping[str, int] = field(default_factory=dict)
    is_warm: bool = False

    def with_one_more(self, request: Request) -> HostView:
        """As it is when `request` has been put there."""
        groups = {group: self.neighbours.get(group, 0) + 1 for group in request.groups}
        return replace(
            self,
            free_bytes=self.free_bytes - request.memory_bytes,
            neighbours={**self.neighbours, **groups},
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One instance to be placed. `memory_bytes` is all that it takes, overhead included.

    `spread`: groups that it keeps away from as far as it can. `apart_from`: groups that may not have
    anything on its host. `only_on`: nowhere else, when given. `not_on`: what was tried already.
    """

    uuid: UUID
    memory_bytes: int
    vcpus: int = 1
    srs: frozenset[UUID] = frozenset()
    spread: frozenset[str] = frozenset()
    apart_from: frozenset[str] = frozenset()
    only_on: frozenset[UUID] | None = None
    not_on: frozenset[UUID] = frozenset()

    @property
    def groups(self) -> frozenset[str]:
        """Those that it belongs to itself."""
        return self.spread | self.apart_from


@dataclass(frozen=True, slots=True)
class Choice:
    host: UUID


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why each host was passed over: host → word of the filter that did."""

    rejects: Mapping[UUID, str]


Answer: TypeAlias = Choice | NoPlace
