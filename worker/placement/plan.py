"""Places for many at once, as for a host that is to be emptied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from worker.placement.model import Choice, HostView, NoPlace, Request
from worker.placement.score import choose


@dataclass(frozen=True, slots=True)
class Plan:
    """`places`: request → host. `waiting`: those for which there is no place, and why."""

    places: Mapping[UUID, UUID]
    waiting: Mapping[UUID, NoPlace]


def plan(requests: Sequence[Request], hosts: Sequence[HostView]) -> Plan:
    """Each in turn, the largest first, on the hosts as those before it leave them."""
    views = {host.uuid: host for host in hosts}
    places: dict[UUID, UUID] = {}
    waiting: dict[UUID, NoPlace] = {}
    for request in sorted(requests, key=lambda one: (-one.memory_bytes, one.uuid)):
        answer = choose(request, list(views.values()))
        if isinstance(answer, Choice):
            places[request.uuid] = answer.host
            views[answer.host] = views[answer.host].with_one_more(request)
        else:
            waiting[request.uuid] = answer
    return Plan(places, waiting)
