"""Asking for long-running work, and for a change of mind.

Everything here writes rows only and may stand in the caller's transaction; workers are rung on commit.
"""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import Case, F, Q, When
from django.db.models.functions import Coalesce, Now

from hosting.errors import Conflict, Forbidden
from hosting.operations.bell import ring_on_commit
from hosting.operations.choices import Queue, State, Trouble, What
from hosting.operations.models import (
    SUBJECTS,
    UNHEARD,
    Operation,
    OperationEvent,
    OperationQuerySet,
    subject_name,
)
from hosting.operations.notices import tell_of, tell_of_all

# Of one queue, at each sweep: more than the workers could take up before the next one.
_MOST_AT_ONCE = 500


def request(
    kind: str,
    subject: models.Model,
    *,
    requested_by: str,
    facts: Mapping[str, Any] | None = None,
    idempotency_key: str = "",
    parent: Operation | None = None,
) -> Operation:
    """Ask for one operation on `subject`; it begins when the transaction is committed.

    The same `idempotency_key` of the same requester answers with the operation that it made.
    Raises Conflict: "operation_in_progress" while another is active on the subject;
    "idempotency_key_reused" when the key was used for something else.
    """
    operation = Operation(
        kind=kind,
        facts=dict(facts or {}),
        requested_by=requested_by,
        idempotency_key=idempotency_key,
        parent=parent,
        dispatched_until=Now() + UNHEARD,
        **{subject_name(subject): subject},
    )
    try:
        with transaction.atomic():
            operation.save(force_insert=True)
            OperationEvent.objects.note(operation, What.REQUESTED, f"by {requested_by}")
    except IntegrityError as error:
        return _already_there(operation, error)
    ring_on_commit([(operation.uuid, kind)])
    tell_of(operation)
    # The database's own values came back with it, but for the one that is reckoned: read when it is wanted.
    del operation.dispatched_until
    return operation


def _already_there(wanted: Operation, error: IntegrityError) -> Operation:
    if wanted.idempotency_key:
        made = Operation.objects.filter(
            requested_by=wanted.requested_by, idempotency_key=wanted.idempotency_key
        ).first()
        if made is not None:
            if (made.kind, made.subject_uuid) == (wanted.kind, wanted.subject_uuid):
                return made
            raise Conflict(
                "This idempotency key was used for another request.",
                code="idempotency_key_reused",
                operation=made.uuid,
            ) from error
    if _violated(error).startswith("one_active_operation_per_"):
        raise Conflict(
            "Something else is being done with it: wait for that, or cancel it.",
            code="operation_in_progress",
            kind=wanted.kind,
            subject=wanted.subject_uuid,
        ) from error
    raise error


def _violated(error: IntegrityError) -> str:
    """The name of the constraint that refused a row."""
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) or ""


def wake(operation: Operation) -> bool:
    """Make a waiting operation look again now; False when it is not active."""
    return bool(_wake(Operation.objects.filter(pk=operation.pk)))


def wake_about(subjects: Mapping[str, Collection[UUID]], operations: Collection[UUID] = ()) -> int:
    """Wake what is under way on these subjects (column of Operation → uuids), and these operations.

    What met a fault of ours keeps its distance: what changes in the pool does not mend that.
    Returns how many were woken. Two queries at most, whatever the numbers.
    """
    touched = Q(pk__in=operations)
    for name in SUBJECTS:
        if subjects.get(name):
            touched |= Q(**{f"{name}_id__in": subjects[name]})
    broken = Q(trouble__in=[Trouble.BUG, Trouble.STUCK])
    return _wake(Operation.objects.filter(touched).exclude(broken))


def _wake(operations: OperationQuerySet) -> int:
    """A worker that holds one of them looks again by itself: it need not be rung for."""
    unheld = Q(leased_until__lte=Now())
    woken = operations.active().update(
        run_at=Now(),
        dispatched_until=Case(When(unheld, then=Now() + UNHEARD), default=F("dispatched_until")),
    )
    if woken:
        ring_on_commit(operations.active().filter(unheld).values_list("uuid", "kind"))
    return woken


def cancel(operation: Operation, *, requested_by: str) -> bool:
    """Ask an operation to turn back at its next step; False when it ended or was asked already.

    It undoes what it did and ends as cancelled, unless it arrives first or its workflow only goes
    forward.
    """
    with transaction.atomic():
        fresh = Operation.objects.active().filter(pk=operation.pk, cancel_requested_at=None)
        if not fresh.update(cancel_requested_at=Now()):
            return False
        OperationEvent.objects.note(operation, What.CANCEL_REQUESTED, f"by {requested_by}")
        tell_of(operation)
        return wake(operation)


def call_off(operation: Operation, *, requested_by: str) -> Operation:
    """`cancel` as people ask for it: twice is once. Raises Conflict ("operation_ended")."""
    if not cancel(operation, requested_by=requested_by):
        _assert_not_ended(operation)
    return Operation.objects.get(pk=operation.pk)


def call_off_own(operation: Operation, *, requested_by: str) -> Operation:
    """As a tenant may. What other work began belongs to whoever asked for that: a tenant that could call
    off each move of its container would keep a host from ever being emptied.

    Raises Forbidden ("operation_not_yours"); Conflict ("operation_ended").
    """
    if operation.parent_id is not None:
        raise Forbidden(
            "Operators' work began this: it goes on.",
            code="operation_not_yours",
            operation=operation.pk,
        )
    return call_off(operation, requested_by=requested_by)


def run_now(operation: Operation) -> Operation:
    """`wake` as people ask for it. Raises Conflict ("operation_ended")."""
    if not wake(operation):
        _assert_not_ended(operation)
    return Operation.objects.get(pk=operation.pk)


def _assert_not_ended(operation: Operation) -> None:
    if Operation.objects.filter(pk=operation.pk, ended_at__isnull=False).exists():
        raise Conflict("It has ended.", code="operation_ended", operation=operation.pk)


def supersede(
    operation: Operation,
    kind: str,
    *,
    requested_by: str,
    facts: Mapping[str, Any] | None = None,
) -> Operation:
    """Replace what is under way by something else on the same subject, e.g. a start by a deletion.

    The successor is queued, and begins when the old one has let go at a step's end: having undone what
    it did, if its workflow has a way back. When the old one has ended already, the successor begins at
    once. Asked twice for the same kind, the second answer is the first's. Raises Conflict
    ("operation_in_progress") when another successor waits already.
    """
    with transaction.atomic():
        old = Operation.objects.select_for_update(no_key=True).get(pk=operation.pk)
        if old.has_ended:
            return request(kind, old.subject, requested_by=requested_by, facts=facts)
        if old.kind == kind:
            return old
        if old.superseded_by is not None:
            return _same_successor(old.superseded_by, kind)
        successor = Operation.objects.create(
            kind=kind,
            facts=dict(facts or {}),
            requested_by=requested_by,
            state=State.QUEUED,
            **{subject_name(old.subject): old.subject},
        )
        OperationEvent.objects.note(successor, What.REQUESTED, f"by {requested_by}")
        OperationEvent.objects.note(old, What.SUPERSEDE_REQUESTED, f"by {kind}, {requested_by}")
        Operation.objects.filter(pk=old.pk).update(
            superseded_by=successor, cancel_requested_at=Coalesce("cancel_requested_at", Now())
        )
        wake(old)
        tell_of(old)
        return Operation.objects.get(pk=successor.pk)


def _same_successor(successor: Operation, kind: str) -> Operation:
    if successor.kind == kind:
        return successor
    raise Conflict(
        "Something else is about to be done with it.",
        code="operation_in_progress",
        operation=successor.uuid,
    )


def hand_over(operations: OperationQuerySet, to: Operation) -> int:
    """End these active operations now, at whatever step, because `to` takes their work over.

    Unlike `supersede` it does not wait for a step's end nor for any undoing: the step that runs at
    this moment cannot be committed any more. `to` answers for whatever they held.
    """
    with transaction.atomic():
        ended = list(operations.active().exclude(pk=to.pk).select_for_update(no_key=True))
        theirs = Operation.objects.filter(pk__in=[old.pk for old in ended])
        theirs.update(
            state=State.SUPERSEDED,
            superseded_by=Coalesce(F("superseded_by"), to.pk),
            ended_at=Now(),
            lease_token=None,
            trouble=Trouble.NONE,
        )
        OperationEvent.objects.bulk_create(
            OperationEvent(
                operation=old, what=What.ENDED, step=old.step, message=f"superseded by {to.kind}"
            )
            for old in ended
        )
        # One of them may have had a successor in waiting, such as a deletion: that wish still stands.
        promote_successors(theirs)
        tell_of_all(theirs)
        return len(ended)


def promote_successors(ended: OperationQuerySet) -> None:
    """Begin what waited for these to let go. In the transaction that ended them."""
    waiting = list(
        Operation.objects.filter(supersedes__in=ended, state=State.QUEUED).values_list(
            "uuid", "kind"
        )
    )
    if waiting:
        Operation.objects.filter(pk__in=[uuid for uuid, _ in waiting]).promote()
        ring_on_commit(waiting)


def dispatch_due() -> int:
    """Ring for every due operation that nobody rings for; how many.

    This alone makes everything arrive: each other ring only makes it arrive sooner. Queue by queue, so
    that a storm in one does not crowd out another.
    """
    return sum(_dispatch(queue) for queue in Queue)


def _dispatch(queue: Queue) -> int:
    with transaction.atomic():
        due = list(
            Operation.objects.due()
            .in_queue(queue)
            .filter(dispatched_until__lte=Now())
            .order_by("run_at")
            .select_for_update(skip_locked=True, no_key=True)
            .values_list("uuid", "kind")[:_MOST_AT_ONCE]
        )
        Operation.objects.filter(pk__in=[uuid for uuid, _ in due]).mark_dispatched()
        ring_on_commit(due)
        return len(due)
