"""Which alarms should stand, judged by the rows alone; those that should not are closed.

It takes no argument and reads everything each time, so whatever ends a trouble also ends its alarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count, Exists, Max, OuterRef, Q
from django.db.models.functions import Now

from hosting.alarms.choices import Severity
from hosting.alarms.services import Wanted, let_stand
from hosting.fleet.models import Pool
from hosting.operations.choices import State, Trouble, What
from hosting.operations.models import Operation, OperationEvent
from hosting.warm.models import WarmPolicy

# A worker that dies leaves no word; so many begun steps without an end are one.
_DEATHS = 3
_UNFOLLOWED = timedelta(minutes=1)
# Blanks that could not be made, one after the other: each took its patience of minutes.
_COLD = 3


def raise_and_close_alarms() -> None:
    """Make the alarms of this module's codes stand exactly where they should."""
    let_stand(_FINDERS.keys(), (alarm for find in _FINDERS.values() for alarm in find()))


def _late() -> Iterator[Wanted]:
    """Operations past their deadline: they go on, but a person should know."""
    for operation in Operation.objects.late():
        yield Wanted(
            f"operation-late:{operation.uuid}",
            Severity.WARNING,
            f"{operation.kind} takes too long",
            f"At step {operation.step}. {operation.detail}".strip(),
        )


def _broken() -> Iterator[Wanted]:
    """Steps that meet a fault of ours: one alarm per step, however many operations it holds up."""
    broken = Operation.objects.active().filter(trouble=Trouble.BUG).values("kind", "step")
    for group in broken.annotate(
        count=Count("pk"), newest=Max("events__pk", filter=Q(events__what=What.RETRYING))
    ).order_by():
        event = OperationEvent.objects.get(pk=group["newest"]) if group["newest"] else None
        yield Wanted(
            f"step-broken:{group['kind']}.{group['step']}",
            Severity.CRITICAL,
            f"A fault of ours in {group['kind']}, step {group['step']}",
            _last_line(event),
        )


def _stuck() -> Iterator[Wanted]:
    """Operations refused where there is no way back."""
    for operation in Operation.objects.active().filter(trouble=Trouble.STUCK):
        yield Wanted(
            f"operation-stuck:{operation.uuid}",
            Severity.CRITICAL,
            f"{operation.kind} is refused and cannot turn back",
            f"At step {operation.step}. {operation.detail}",
        )


def _dying() -> Iterator[Wanted]:
    """Steps that were begun again and again and never ended, not even badly."""
    dying = Operation.objects.active().filter(trouble=Trouble.NONE, attempt__gte=_DEATHS)
    for operation in dying:
        yield Wanted(
            f"step-kills-workers:{operation.uuid}",
            Severity.CRITICAL,
            f"{operation.kind} kills its workers at {_place(operation)}",
            "Workers began this step and were not heard of again.",
        )


def _place(operation: Operation) -> str:
    """Its first step is written down when that has been committed."""
    return f"step {operation.step}" if operation.step else "its first step"


def _unfollowed() -> Iterator[Wanted]:
    """Pools whose follower's lease is over: nobody watches them."""
    for pool in Pool.objects.filter(followed_until__lte=Now() - _UNFOLLOWED):
        yield Wanted(
            f"pool-unfollowed:{pool.uuid}",
            Severity.CRITICAL,
            f"Nobody follows pool {pool.name}",
            "Start `manage.py follow` for it. What pages show of it is out of date.",
        )


def _cold() -> Iterator[Wanted]:
    """Pools that are to keep blanks, of which the last few could not be made: containers start cold."""
    made = Operation.objects.filter(kind="blank.prepare", state__in=[State.SUCCEEDED, State.FAILED])
    for pool in Pool.objects.filter(Exists(WarmPolicy.objects.filter(pool=OuterRef("pk")))):
        # A host that is full is no trouble: blanks make room for whoever needs it.
        last = made.filter(blank__pool=pool).exclude(error_code="no_room").order_by("-created_at")
        ends = list(last.values_list("state", "error")[:_COLD])
        if len(ends) == _COLD and all(state == State.FAILED for state, _ in ends):
            yield Wanted(
                f"blanks-failing:{pool.uuid}",
                Severity.WARNING,
                f"No blank can be made in pool {pool.name}",
                f"Its containers start cold. The last one: {ends[0][1]}",
            )


def _last_line(event: OperationEvent | None) -> str:
    return event.private.strip().rpartition("\n")[2] if event is not None else ""


_FINDERS = {
    "operation-late": _late,
    "step-broken": _broken,
    "operation-stuck": _stuck,
    "step-kills-workers": _dying,
    "pool-unfollowed": _unfollowed,
    "blanks-failing": _cold,
}
