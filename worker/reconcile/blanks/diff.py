"""Which blanks are to be made, and which are to go. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

# Made or destroyed at once on one host: more would be in the way of those who start there.
AT_ONCE = 2
LONGEST_AGE = timedelta(days=1)

Size: TypeAlias = tuple[int, int, int]
"""vCPUs, bytes of memory, bytes of disk."""


@dataclass(frozen=True, slots=True)
class HostView:
    """`is_open`: it takes new instances. `is_leaving`: what is on it goes. `is_spared`: one ended there a moment
    ago without having been taken, because it could not be made or to make room.
    """

    uuid: UUID
    free_bytes: int
    is_open: bool
    is_leaving: bool = False
    is_spared: bool = False


@dataclass(frozen=True, slots=True)
class BlankView:
    """One that nobody has taken. `doing`: something is being done with it. `is_current`: it booted as VMs of its
    pool would now. `is_there`: its VM stands still, as far as is known.
    """

    uuid: UUID
    host: UUID
    size: Size
    age: timedelta
    is_ready: bool = True
    is_retired: bool = False
    doing: bool = False
    is_current: bool = True
    is_there: bool = True


@dataclass(frozen=True, slots=True)
class Prepare:
    host: UUID
    size: Size


@dataclass(frozen=True, slots=True)
class Discard:
    blank: UUID


def diff(
    hosts: Iterable[HostView],
    blanks: Sequence[BlankView],
    wanted: Mapping[Size, int],
    needs: Mapping[Size, int],
) -> Iterator[Prepare | Discard]:
    """`wanted`: how many of each size on every host. `needs`: size → all the memory that one takes."""
    for host in hosts:
        there = [blank for blank in blanks if blank.host == host.uuid]
        doomed = list(_doomed(host, there, wanted))
        slots = max(AT_ONCE - sum(blank.doing for blank in there), 0)
        going = [blank for blank in doomed if not blank.doing][:slots]
        yield from (Discard(blank.uuid) for blank in going)
        if host.is_open and not host.is_spared:
            kept = [blank.size for blank in there if blank not in doomed]
            yield from _missing(host, Counter(kept), wanted, needs, slots - len(going))


def _doomed(
    host: HostView, there: Sequence[BlankView], wanted: Mapping[Size, int]
) -> Iterator[BlankView]:
    """Those unfit, and of those that are too many the oldest."""
    kept: Counter[Size] = Counter()
    for blank in sorted(there, key=lambda one: (one.age, one.uuid)):
        if host.is_leaving or not _is_fit(blank) or kept[blank.size] >= wanted.get(blank.size, 0):
            yield blank
        else:
            kept[blank.size] += 1


def _is_fit(blank: BlankView) -> bool:
    """One that is being made is judged when that has ended."""
    if blank.is_retired:
        return False
    if not blank.is_ready:
        return blank.doing
    return blank.is_current and blank.is_there and blank.age < LONGEST_AGE


def _missing(
    host: HostView,
    kept: Counter[Size],
    wanted: Mapping[Size, int],
    needs: Mapping[Size, int],
    slots: int,
) -> Iterator[Prepare]:
    free = host.free_bytes
    for size, count in sorted(wanted.items()):
        for _ in range(count - kept[size]):
            if slots <= 0 or needs[size] > free:
                break
            slots, free = slots - 1, free - needs[size]
            yield Prepare(host.uuid, size)
