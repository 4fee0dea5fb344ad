"""Opens the operations that bring instances to what is wished of them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.utils import timezone

from hosting.alarms.choices import Severity
from hosting.alarms.services import Wanted, let_stand
from hosting.compute.exits import exit_of
from hosting.compute.models import Instance, InstanceQuerySet
from hosting.errors import Conflict
from hosting.fleet.choices import PoolState
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import request
from worker.reconcile.instances.diff import Begin, View, diff, is_lost

REQUESTED_BY = "system:reconcile"
CODE = "vm-lost"


def reconcile_instances() -> int:
    """How many operations were opened. Two queries to look, however many there are."""
    views = list(_views())
    let_stand([CODE], (_alarm_about(view.uuid) for view in views if is_lost(view)))
    return sum(_begin(begin) for begin in diff(views, timezone.now()))


def _alarm_about(lost: UUID) -> Wanted:
    return Wanted(
        f"{CODE}:{lost}",
        Severity.CRITICAL,
        f"The VM of instance {lost} is unknown to its pool",
        "It may run all the same: no other is started until a person has looked.",
    )


@transaction.atomic
def _begin(begin: Begin) -> bool:
    """False when somebody else was faster."""
    instance = Instance.objects.get(pk=begin.instance)
    try:
        request(begin.act.value, instance, requested_by=REQUESTED_BY)
    except Conflict:
        return False
    if begin.restarts is not None:
        Instance.objects.filter(pk=instance.pk).update(restarts=begin.restarts)
    return True


def _views() -> Iterator[View]:
    for row in _idle():
        seen_since = row.pool is not None and row.pool.state == PoolState.CONNECTED
        yield View(
            uuid=row.pk,
            desired_state=row.container.desired_state,
            restart_policy=row.container.restart_policy,
            is_published=row.published_at is not None,
            host=row.host_id,
            power_state=row.power_state,
            resident_on=row.resident_on_id,
            is_known=seen_since and bool(getattr(row, "is_settled", False)),
            was_taken_over=getattr(row, "last_state", None) == State.SUPERSEDED,
            exit_code=ended.code if (ended := exit_of(row.vm_data)) is not None else None,
            restarts=row.restarts,
            started_at=row.started_at,
        )


def _idle() -> InstanceQuerySet:
    """Those that nothing is being done with, nor with the host that they are on."""
    operations = Operation.objects.filter(instance=OuterRef("pk"))
    of_host = Operation.objects.filter(host=OuterRef("host"), kind="host.recover")
    under_way = [State.ACTIVE, State.QUEUED]
    last = operations.order_by("-created_at", "pk")
    return (
        Instance.objects.all()
        .living()
        .filter(~Exists(operations.filter(state__in=under_way)))
        .filter(~Exists(of_host.filter(state__in=under_way)))
        .with_facts()
        .annotate(
            last_state=Subquery(last.values("state")[:1]),
            last_ended_at=Subquery(last.values("ended_at")[:1]),
        )
        .annotate(
            is_settled=Q(last_ended_at=None) | Q(pool__last_seen_at__gt=F("last_ended_at")),
        )
        .select_related("container", "pool")
        .defer("pool__candidates")
        .order_by("pk")
    )
