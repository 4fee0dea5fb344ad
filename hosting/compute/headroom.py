"""Would everything run on if a host died now? By memory alone, so an estimate, and for people.

What is really done is worker/placement's to say, which also looks at storage, CPUs and neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace
from uuid import UUID

from hosting.compute.models import Instance
from hosting.fleet.models import Host, Pool
from hosting.warm.selectors import yielding_bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one host: how many of its instances would start on others, and how many would wait for room."""

    starting: int
    waiting: int


def losses_of(pool: Pool) -> dict[UUID, Loss]:
    """For each host of the pool. Three queries. Blanks make room for whoever starts."""
    hosts = Host.objects.present().filter(pool=pool)
    yielding = yielding_bytes(pool)
    takers = {
        host.pk: host.memory_unreserved_bytes + yielding.get(host.pk, 0)
        for host in hosts.accepting()
    }
    held: defaultdict[UUID, list[int]] = defaultdict(list)
    there = Instance.objects.all().living().filter(host__pool=pool)
    for host, reserved in there.values_list("host", "reserved_bytes"):
        if host is not None:
            held[host].append(reserved)
    return losses(takers, held)


def losses(free: Mapping[UUID, int], held: Mapping[UUID, Iterable[int]]) -> dict[UUID, Loss]:
    """`free`: bytes on hosts that take instances. `held`: sizes of the instances on each host."""
    return {
        host: _loss([room for other, room in free.items() if other != host], sizes)
        for host, sizes in held.items()
    }


def _loss(rooms: list[int], sizes: Iterable[int]) -> Loss:
    """The largest first, each where most is free."""
    emptiest = [-room for room in rooms] or [0]
    heapify(emptiest)
    starting = waiting = 0
    for size in sorted(sizes, reverse=True):
        if -emptiest[0] < size:
            waiting += 1
        else:
            heapreplace(emptiest, emptiest[0] + size)
            starting += 1
    return Loss(starting, waiting)
