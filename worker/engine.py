"""Runs operations: claim one, run its step, commit what came of it, go on.

Any worker may run any step, run it twice, or die between acting and committing; so a step must be safe to
repeat. The lease only keeps that from being common: whoever commits must still hold it, and all clocks
are the database's. It is short, for the sake of what a dead worker held (worker/pulse.py).

    claim    one guarded UPDATE takes the lease of a due operation, or nothing does.
    act      a remote step runs here, outside any transaction; a ledger step runs inside the next phase.
    commit   one transaction writes domain rows, facts, the next step and the journal, if the lease is
             still ours. A worker that goes on at once keeps the lease, renewed.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from time import monotonic
from typing import Any, TypeAlias
from uuid import UUID

import structlog
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from hosting.fleet.models import Pool
from hosting.operations.bell import ring_on_commit
from hosting.operations.choices import (
    State,
    Trouble,
    What,
    longest_step,
    queue_of,
)
from hosting.operations.models import UNHEARD, Operation, OperationEvent
from hosting.operations.notices import tell_of, tell_of_all
from hosting.operations.services import promote_successors
from worker import lease, pulse
from worker.hypervisor.port import (
    Busy,
    Gone,
    Hypervisor,
    HypervisorError,
    NoRoom,
    Refused,
    Unreachable,
)
from worker.lease import NOW, Note, Sql, later
from worker.workflow import Done, Failed, Next, Outcome, Spawn, Step, Wait, Workflow

log = structlog.get_logger(__name__)

LONGEST_RUN = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=10)
CANCELLED = "cancelled"

Connect: TypeAlias = Callable[[Pool], Hypervisor]
Held: TypeAlias = bool
"""Whether the lease is still ours after a commit."""

_TROUBLES: dict[type[HypervisorError], Trouble] = {
    Unreachable: Trouble.UNREACHABLE,
    Busy: Trouble.BUSY,
    Gone: Trouble.GONE,
    NoRoom: Trouble.NO_ROOM,
    Refused: Trouble.STUCK,
}


# What a dead worker held is taken up after this. A step that may take longer has it renewed while it runs.
LEASE = timedelta(minutes=2)


class LeaseLost(Exception):
    """Another worker took the operation over, or it was ended, while this one was acting."""


def advance(uuid: UUID, connect: Connect, *, at_most: timedelta = LONGEST_RUN) -> int:
    """Run the operation's steps until it ends, waits or `at_most` is over; how many steps ran.

    Nothing to run is no error. The last step begins before `at_most` is over and may end after it.
    """
    ends_at = monotonic() + at_most.total_seconds()
    ran = 0
    operation = claim(uuid)
    while operation is not None:
        go_on, before = monotonic() < ends_at, operation.step
        try:
            held = run_step(operation, connect, keep=go_on)
        except LeaseLost:
            log.info("lease_lost", operation=str(uuid), step=operation.step)
            break
        ran += 1
        if held:
            operation = operation if _is_at_hand(operation, before) else None
        elif go_on and operation.is_due and not operation.has_ended:
            # Woken while the step ran, it is due again at once.
            operation = claim(uuid)
        else:
            break
    return ran


def claim(uuid: UUID) -> Operation | None:
    """Take the lease if the operation is due and nobody holds it."""
    operation = lease.take(uuid, LEASE)
    return operation if operation is not None and lease.read_subject(operation) else None


def _is_at_hand(operation: Operation, before: str) -> bool:
    """Have all that its next step needs, after its step `before`; False when the lease is another's.

    From one remote step to the next what it is about stays as it was read: neither writes its rows.
    """
    steps = Workflow.registry[operation.kind].steps
    if before and steps[before].is_remote and steps[operation.step].is_remote:
        return True
    return lease.read_subject(operation)


def run_step(operation: Operation, connect: Connect, *, keep: bool) -> Held:
    """Run and commit the step that a claimed operation is at. Raises LeaseLost.

    `keep`: when the next step can follow at once, hold on to the lease.
    """
    at, token = operation.step, operation.lease_token
    try:
        workflow = Workflow.registry[operation.kind]
        at = operation.step = operation.step or workflow.first
        step = workflow.steps[operation.step]
        if _must_let_go(operation, workflow, step):
            return _let_go(operation, workflow, keep=keep)
        return _run(operation, workflow, step, connect, keep=keep)
    except LeaseLost:
        raise
    except OperationalError as error:
        # A deadlock, a time limit or a restart of the database.
        operation.step, operation.lease_token = at, token
        return _retry(operation, Trouble.BUSY, "The database was busy.", private=repr(error))
    except Exception as error:
        operation.step, operation.lease_token = at, token
        log.exception("step_broken", operation=str(operation.uuid), step=operation.step)
        return _retry(
            operation,
            Trouble.BUG,
            f"A fault of ours ({type(error).__name__}): the operators are told.",
            private=traceback.format_exc(),
        )


def _run(
    operation: Operation, workflow: Workflow[Any], step: Step, connect: Connect, *, keep: bool
) -> Held:
    subject = operation.subject
    if not step.is_remote:
        with transaction.atomic():
            return _commit(operation, workflow, step.run(subject, operation.facts), keep=keep)
    try:
        with holding(operation):
            outcome = step.run(subject, operation.facts, connect(workflow.pool_of(subject)))
    except HypervisorError as error:
        return _answer(operation, workflow, step, error, keep=keep)
    if isinstance(outcome, Next):
        # One statement, which is a transaction by itself.
        return _commit(operation, workflow, outcome, keep=keep)
    with transaction.atomic():
        return _commit(operation, workflow, outcome, keep=keep)


def holding(operation: Operation) -> AbstractContextManager[None]:
    """While a remote step of it runs: one whose worker is killed within the lease needs nothing."""
    longest = 2 * longest_step(queue_of(operation.kind))  # killed after three quarters of it
    return nullcontext() if longest <= LEASE else pulse.held(operation, LEASE, at_most=longest)


# ------------------------------------------------------------------------------------- when it goes wrong


def _answer(
    operation: Operation,
    workflow: Workflow[Any],
    step: Step,
    error: HypervisorError,
    *,
    keep: bool,
) -> Held:
    """What to do about each of the port's errors."""
    way_back = _way_back(operation, workflow, step)
    if isinstance(error, Refused) and way_back:
        return _turn_back(
            operation, way_back, code=error.reason, why=str(error), cause=error, keep=keep
        )
    if isinstance(error, NoRoom) and workflow.no_room and _is_open(operation, step):
        return _place_again(operation, workflow.no_room, error, keep=keep)
    return _retry(operation, _TROUBLES[type(error)], str(error), private=_cause(error))


def _way_back(operation: Operation, workflow: Workflow[Any], step: Step) -> str | None:
    """Where to turn back to, if that is still possible."""
    return workflow.undo if _is_open(operation, step) else None


def _is_open(operation: Operation, step: Step) -> bool:
    """Whether what was done so far may still be taken back."""
    return step.can_turn_back and not operation.turned_back


@transaction.atomic
def _turn_back(
    operation: Operation,
    way_back: str,
    *,
    code: str,
    why: str,
    keep: bool,
    cause: HypervisorError | None = None,
) -> Held:
    OperationEvent.objects.note(operation, What.TURNED_BACK, why, private=_cause(cause))
    return _go(operation, way_back, keep=keep, turned_back=True, error_code=code, error=why)


@transaction.atomic
def _place_again(operation: Operation, step: str, error: NoRoom, *, keep: bool) -> Held:
    OperationEvent.objects.note(operation, What.RETRYING, str(error), private=_cause(error))
    return _go(operation, step, keep=keep, detail=str(error))


@transaction.atomic
def _retry(operation: Operation, trouble: Trouble, why: str, *, private: str) -> Held:
    """The same step again, later: journalled when the trouble changes and at each tenth time."""
    if (operation.trouble, operation.detail) != (trouble, why) or operation.attempt % 10 == 0:
        OperationEvent.objects.note(operation, What.RETRYING, why, private=private)
    pause = LONGEST_BACKOFF if trouble in _FOR_A_PERSON else backoff(operation.attempt)
    # Where the row is now: a commit that failed left it at this step, one whose answer was lost did not.
    step = Sql("CASE WHEN step = '' THEN %s ELSE step END", (operation.step,))
    return _release(operation, step=step, run_at=later(pause), trouble=trouble, detail=why)


_FOR_A_PERSON = frozenset({Trouble.BUG, Trouble.STUCK})


def backoff(attempt: int) -> timedelta:
    """Exponential in the attempts made in a row, capped, with full jitter."""
    return min(timedelta(seconds=2 ** min(attempt, 20)), LONGEST_BACKOFF) * random.random()


def _cause(error: BaseException | None) -> str:
    """What the hypervisor itself said: for operators."""
    return "" if error is None else repr(error.__cause__ or error)


# ----------------------------------------------------------------------------------- a change of mind


def _must_let_go(operation: Operation, workflow: Workflow[Any], step: Step) -> bool:
    if operation.cancel_requested_at is None:
        return False
    if workflow.undo is None:
        return operation.superseded_by_id is not None
    return _way_back(operation, workflow, step) is not None


def _let_go(operation: Operation, workflow: Workflow[Any], *, keep: bool) -> Held:
    """It was cancelled or superseded: take the way back, or end where there is nothing to undo."""
    if workflow.undo is not None:
        return _turn_back(
            operation, workflow.undo, code=CANCELLED, why="It was cancelled.", keep=keep
        )
    with transaction.atomic():
        return _end(operation, State.SUPERSEDED)


# ------------------------------------------------------------------------------------------------ commit


def _commit(operation: Operation, workflow: Workflow[Any], outcome: Outcome, *, keep: bool) -> Held:
    if isinstance(outcome, Next):
        if outcome.step not in workflow.steps:
            raise LookupError(f"{operation.kind} has no step {outcome.step}")
        facts = {**operation.facts, **outcome.facts}
        if outcome.after is not None:
            then = _unless_woken(operation, outcome.after)
            return _go(operation, outcome.step, keep=False, facts=facts, run_at=then)
        return _go(operation, outcome.step, keep=keep, facts=facts)
    if isinstance(outcome, Wait):
        return _wait(operation, outcome.delay, outcome.reason)
    if isinstance(outcome, Spawn):
        _spawn(operation, outcome)
        return _wait(operation, outcome.delay, outcome.reason)
    if isinstance(outcome, Done):
        return _end(operation, State.SUCCEEDED)
    return _fail(operation, outcome)


def _go(operation: Operation, step: str, *, keep: bool, **changes: Any) -> Held:
    hold: dict[str, Any] = (
        {"leased_until": later(LEASE), "attempt": 1}
        if keep
        else {**_let_go_of_lease(), "attempt": 0}
    )
    _write(
        operation,
        Note(What.STEP, step),
        **{
            "step": step,
            "run_at": NOW,
            "trouble": Trouble.NONE,
            "detail": "",
            **hold,
            **changes,
        },
    )
    return keep


def _wait(operation: Operation, delay: timedelta, reason: str) -> Held:
    note = None
    if reason and reason != operation.detail:
        note = Note(What.WAITING, operation.step, operation.attempt, reason)
    then = _unless_woken(operation, delay)
    return _release(operation, note, run_at=then, trouble=Trouble.NONE, detail=reason, attempt=0)


def _unless_woken(operation: Operation, delay: timedelta) -> Sql:
    """So much later. A wake-up that came while the step ran has moved run_at: that is kept."""
    moved = "CASE WHEN run_at = %s THEN STATEMENT_TIMESTAMP() + %s ELSE run_at END"
    return Sql(moved, (operation.run_at, delay))


def _spawn(operation: Operation, outcome: Spawn[Any]) -> None:
    children = [
        Operation(
            kind=outcome.workflow.kind,
            parent=operation,
            facts=dict(outcome.facts_of(subject)),
            requested_by=operation.requested_by,
            dispatched_until=Now() + UNHEARD,
            **{outcome.workflow.subject: subject},
        )
        for subject in outcome.subjects
    ]
    # A subject that has something under way is left alone: asking twice is asking once.
    Operation.objects.bulk_create(children, ignore_conflicts=True)
    born = Operation.objects.filter(pk__in=[child.pk for child in children])
    OperationEvent.objects.bulk_create(
        OperationEvent(operation=child, what=What.REQUESTED, message=f"by {operation.kind}")
        for child in born
    )
    ring_on_commit((child.uuid, child.kind) for child in born)
    tell_of_all(born)


def _fail(operation: Operation, outcome: Failed) -> Held:
    if operation.turned_back:
        code, why = operation.error_code, operation.error
    else:
        code, why = outcome.code, outcome.reason
    was_cancelled = code == CANCELLED and operation.cancel_requested_at is not None
    gave_up = State.CANCELLED if was_cancelled else State.FAILED
    # Read as the row is written, since a successor may have been named while the step ran.
    state = Sql(
        "CASE WHEN superseded_by_id IS NULL THEN %s ELSE %s END",
        (gave_up.value, State.SUPERSEDED.value),
    )
    return _end(operation, state, error_code=code, error=why)


def _end(operation: Operation, state: State | Sql, **changes: Any) -> Held:
    why = changes.get("error", "") or Sql("state")
    _release(
        operation,
        Note(What.ENDED, operation.step, operation.attempt, why),
        state=state,
        ended_at=NOW,
        trouble=Trouble.NONE,
        detail="",
        **changes,
    )
    if operation.superseded_by_id is not None:
        promote_successors(Operation.objects.filter(pk=operation.pk))
    if operation.state == State.SUCCEEDED and operation.parent_id is not None:
        # A failure leaves the parent to its own clock, or the two would spin.
        _wake_parent(operation.parent_id)
    return False


def _wake_parent(uuid: UUID) -> None:
    parent = Operation.objects.active().filter(pk=uuid)
    parent.wake()
    ring_on_commit(parent.values_list("uuid", "kind"))


def _release(operation: Operation, note: Note | None = None, **changes: Any) -> Held:
    _write(operation, note, **_let_go_of_lease(), **changes)
    return False


def _let_go_of_lease() -> dict[str, Any]:
    return {"lease_token": None, "leased_until": NOW, "dispatched_until": NOW}


def _deadline(operation: Operation) -> dict[str, Any]:
    """It counts from the first step."""
    workflow = Workflow.registry.get(operation.kind)
    if operation.deadline_at is not None or workflow is None or workflow.deadline is None:
        return {}
    return {"deadline_at": later(workflow.deadline)}


def _write(operation: Operation, note: Note | None = None, **changes: Any) -> None:
    """Commit the transition, if the lease is still ours."""
    if not lease.write(
        operation, {"step": operation.step, **_deadline(operation), **changes}, note
    ):
        raise LeaseLost(operation.uuid)
    tell_of(operation)
