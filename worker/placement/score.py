"""Of the hosts that could, the one that should."""

from collections.abc import Sequence
from uuid import UUID

from worker.placement.filters import reject
from worker.placement.model import Answer, Choice, HostView, NoPlace, Request


def choose(request: Request, hosts: Sequence[HostView]) -> Answer:
    """Where it starts at once, then where few of its groups are, then where most is free.

    The same question has the same answer.
    """
    rejects = {host.uuid: reject(host, request) for host in hosts}
    able = [host for host in hosts if rejects[host.uuid] is None]
    if not able:
        return NoPlace({uuid: word for uuid, word in rejects.items() if word is not None})
    return Choice(min(able, key=lambda host: _order(host, request)).uuid)


def _order(host: HostView, request: Request) -> tuple[bool, int, int, UUID]:
    company = sum(host.neighbours.get(group, 0) for group in request.spread)
    return (not host.is_warm, company, -host.free_bytes, host.uuid)
