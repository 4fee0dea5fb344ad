"""Looks at every host of every pool, and opens the recoveries and evacuations that are due."""

from __future__ import annotations

from collections.abc import Callable, Collection
from uuid import UUID

from django.db import transaction
from django.db.models import OuterRef, Subquery

from hosting.errors import Conflict
from hosting.fleet.models import Host, Pool
from hosting.operations.models import Operation
from hosting.operations.selectors import active_operation_about
from hosting.operations.services import hand_over, request, supersede
from worker.liveness.sweep import sweep
from worker.reconcile.hosts.diff import Act, Begin, View, diff

REQUESTED_BY = "system:reconcile"


def _suspects_of(pool: Pool) -> Collection[UUID]:
    return sweep(pool).suspects


def reconcile_hosts(suspects_of: Callable[[Pool], Collection[UUID]] = _suspects_of) -> int:
    """How many operations were opened. May take ten seconds a pool when many hosts hang."""
    begun = 0
    for pool in Pool.objects.order_by("pk"):
        suspects = suspects_of(pool)
        for begin in diff([_view(host, suspects) for host in _hosts_of(pool)]):
            begun += _begin(begin)
    return begun


def _hosts_of(pool: Pool) -> list[Host]:
    doing = Operation.objects.active().filter(host=OuterRef("pk")).values("kind")[:1]
    present = Host.objects.all().present().filter(pool=pool)
    return list(present.annotate(doing=Subquery(doing)).order_by("pk"))


def _view(host: Host, suspects: Collection[UUID]) -> View:
    return View(host.pk, host.state, host.pk in suspects, getattr(host, "doing", None))


@transaction.atomic
def _begin(begin: Begin) -> bool:
    host = Host.objects.get(pk=begin.host)
    active = active_operation_about(host)
    try:
        if active is None:
            request(begin.act.value, host, requested_by=REQUESTED_BY)
        elif begin.act == Act.RECOVER and active.kind != Act.RECOVER:
            # An evacuation cannot turn back on a host that does not answer: it ends here and now.
            successor = supersede(active, begin.act.value, requested_by=REQUESTED_BY)
            hand_over(Operation.objects.filter(pk=active.pk), successor)
        else:
            return False
    except Conflict:
        return False
    return True
