"""Cancelling, superseding, handing over."""

from __future__ import annotations

import pytest

from hosting.errors import Conflict
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import cancel, hand_over, supersede
from worker import engine
from worker.hypervisor.port import Busy
from worker.tests.shed import Shed, douse, furnish_all
from worker.tests.support import run_to_end, to
from worker.tests.test_engine_outcomes import step
from worker.tests.test_engine_troubles import failing

pytestmark = pytest.mark.django_db


def test_a_cancelled_operation_undoes_what_it_did(operation: Operation, shed: Shed) -> None:
    step(operation)
    step(operation, shed)
    assert cancel(operation, requested_by="user:alice")
    run_to_end(operation, shed)
    assert (operation.state, operation.error_code) == (State.CANCELLED, "cancelled")
    assert not shed.lamps
    assert Host.objects.get().memory_reserved_bytes == 0


def test_cancelling_wakes_what_waits(operation: Operation) -> None:
    step(operation)
    step(operation, failing(Busy("held")))
    cancel(operation, requested_by="user:alice")
    assert step(operation).step == "clear"


def test_cancelling_once_is_enough(operation: Operation) -> None:
    assert cancel(operation, requested_by="user:alice")
    assert not cancel(operation, requested_by="user:alice")
    assert operation.events.filter(what="cancel_requested").count() == 1


def test_what_has_ended_cannot_be_cancelled(operation: Operation, shed: Shed) -> None:
    run_to_end(operation, shed)
    assert not cancel(operation, requested_by="user:alice")


def test_it_is_too_late_once_the_goal_is_published(operation: Operation, shed: Shed) -> None:
    for _ in range(4):
        step(operation, shed)
        Operation.objects.update(run_at=operation.created_at)
    assert operation.step == "publish"
    cancel(operation, requested_by="user:alice")
    run_to_end(operation, shed)
    assert operation.state == State.SUCCEEDED
    assert shed.lamps == {"xen-1": True}


def test_what_only_goes_forward_arrives_though_cancelled(host: Host, shed: Shed) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool)
    cancel(parent, requested_by="user:alice")
    assert run_to_end(parent, shed).state == State.SUCCEEDED


def test_a_successor_begins_when_the_old_one_has_undone_itself(
    operation: Operation, shed: Shed
) -> None:
    step(operation)
    step(operation, shed)
    successor = supersede(operation, douse.kind, requested_by="user:alice")
    assert successor.state == State.QUEUED
    assert engine.claim(successor.uuid) is None
    run_to_end(operation, shed)
    assert (operation.state, operation.superseded_by) == (State.SUPERSEDED, successor)
    assert Host.objects.get().memory_reserved_bytes == 0
    assert run_to_end(successor, shed).state == State.SUCCEEDED


def test_a_successor_begins_at_once_where_there_is_nothing_to_undo(host: Host) -> None:
    old = Operation.objects.create(kind=douse.kind, host=host)
    successor = supersede(old, "test.furnish", requested_by="user:alice")
    step(old)
    successor.refresh_from_db()
    assert (old.state, successor.state) == (State.SUPERSEDED, State.ACTIVE)


def test_a_successor_begins_though_the_old_one_arrived_first(
    operation: Operation, shed: Shed
) -> None:
    for _ in range(4):
        step(operation, shed)
        Operation.objects.update(run_at=operation.created_at)
    successor = supersede(operation, douse.kind, requested_by="user:alice")
    run_to_end(operation, shed)
    successor.refresh_from_db()
    assert (operation.state, successor.state) == (State.SUCCEEDED, State.ACTIVE)


def test_a_successor_named_while_the_last_step_ran_is_not_forgotten(
    operation: Operation, shed: Shed
) -> None:
    step(operation)
    cancel(operation, requested_by="user:alice")
    step(operation)
    step(operation, shed)
    assert operation.step == "give_back"
    claimed = engine.claim(operation.uuid)
    assert claimed is not None
    successor = supersede(operation, douse.kind, requested_by="user:alice")
    engine.run_step(claimed, to(shed), keep=False)
    operation.refresh_from_db()
    successor.refresh_from_db()
    assert (operation.state, successor.state) == (State.SUPERSEDED, State.ACTIVE)


def test_superseding_what_has_ended_is_asking_for_the_new(operation: Operation, shed: Shed) -> None:
    run_to_end(operation, shed)
    successor = supersede(operation, douse.kind, requested_by="user:alice", facts={"why": "x"})
    assert (successor.state, successor.facts) == (State.ACTIVE, {"why": "x"})


def test_superseding_twice_is_superseding_once(operation: Operation) -> None:
    first = supersede(operation, douse.kind, requested_by="user:alice")
    assert supersede(operation, douse.kind, requested_by="user:bob") == first
    with pytest.raises(Conflict) as refused:
        supersede(operation, "test.other", requested_by="user:bob")
    assert refused.value.code == "operation_in_progress"


def test_nothing_supersedes_its_own_kind(operation: Operation) -> None:
    assert supersede(operation, operation.kind, requested_by="user:alice") == operation
    operation.refresh_from_db()
    assert operation.cancel_requested_at is None


def test_what_is_handed_over_ends_at_once_and_cannot_be_committed(operation: Operation) -> None:
    other = Operation.objects.create(kind="test.douse", host=make_host())
    running = engine.claim(operation.uuid)
    assert running is not None
    assert hand_over(Operation.objects.filter(kind=operation.kind), other) == 1
    with pytest.raises(engine.LeaseLost):
        engine.run_step(running, to(None), keep=False)
    operation.refresh_from_db()
    assert (operation.state, operation.superseded_by) == (State.SUPERSEDED, other)
    assert operation.events.get(what="ended").message == "superseded by test.douse"


def test_handing_over_does_not_end_the_one_that_takes_over(operation: Operation) -> None:
    assert hand_over(Operation.objects.all(), operation) == 0


def test_a_wish_that_waited_for_what_is_handed_over_still_stands(operation: Operation) -> None:
    wish = supersede(operation, douse.kind, requested_by="user:alice")
    other = Operation.objects.create(kind="test.recover", host=make_host())
    hand_over(Operation.objects.filter(pk=operation.pk), other)
    wish.refresh_from_db()
    operation.refresh_from_db()
    assert wish.state == State.ACTIVE
    assert operation.superseded_by == wish
