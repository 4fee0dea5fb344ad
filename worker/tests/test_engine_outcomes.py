"""What each answer of a step leads to."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models.functions import Now

from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host
from hosting.operations.choices import State, Trouble
from hosting.operations.models import Operation
from hosting.operations.services import wake
from worker import engine
from worker.tests.shed import NEEDS, Shed, furnish, furnish_all
from worker.tests.support import let_time_pass, run_to_end, to
from worker.workflow import Done, Failed, Next, Outcome, Spawn, Step, Wait, Workflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the first step of the furnishing answer as told."""

    def arrange(outcome: Outcome) -> None:
        def reserve(host: Host, facts: Any) -> Outcome:
            return outcome

        monkeypatch.setitem(furnish.steps, "reserve", Step(reserve, False, True))

    return arrange


def step(operation: Operation, shed: Any = None, *, keep: bool = False) -> Operation:
    claimed = engine.claim(operation.uuid)
    assert claimed is not None
    engine.run_step(claimed, to(shed), keep=keep)
    operation.refresh_from_db()
    return operation


def seconds_away(operation: Operation) -> float:
    """How far in the future the operation is due, by the database's clock."""
    away = Operation.objects.filter(pk=operation.pk).annotate(now=Now()).get()
    return float((away.run_at - away.now).total_seconds())  # type: ignore[attr-defined]


def test_next_goes_on_with_the_facts_of_all_steps(operation: Operation) -> None:
    Operation.objects.update(facts={"asked": "before"})
    step(operation)
    assert operation.step == "build"
    assert operation.facts == {"asked": "before", "reserved": NEEDS, "host": str(operation.host_id)}
    assert seconds_away(operation) <= 0


def test_next_gives_the_lease_back_when_the_worker_does_not_go_on(operation: Operation) -> None:
    step(operation, keep=False)
    assert operation.lease_token is None
    assert engine.claim(operation.uuid) is not None


def test_next_renews_the_lease_when_the_worker_goes_on(operation: Operation) -> None:
    claimed = engine.claim(operation.uuid)
    assert claimed is not None
    Operation.objects.update(leased_until=Now() + timedelta(seconds=1))
    assert engine.run_step(claimed, to(None), keep=True) is True
    operation.refresh_from_db()
    assert operation.lease_token == claimed.lease_token
    left = operation.leased_until - operation.run_at
    assert left == timedelta(seconds=120)


def test_next_after_a_while_lets_go_even_of_a_worker_that_would_go_on(
    operation: Operation, answer: Any
) -> None:
    answer(Next(furnish.steps["build"].run, after=timedelta(seconds=30)))
    step(operation, keep=True)
    assert (operation.step, operation.lease_token, operation.attempt) == ("build", None, 0)
    assert 29 < seconds_away(operation) <= 30


def test_next_after_a_while_comes_at_once_when_a_wake_up_came_meanwhile(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def woken(host: Host, facts: Any) -> Outcome:
        wake(operation)
        return Next(furnish.steps["build"].run, after=timedelta(hours=1))

    monkeypatch.setitem(furnish.steps, "reserve", Step(woken, False, True))
    step(operation)
    assert operation.step == "build"
    assert seconds_away(operation) <= 0


def test_next_to_a_step_that_is_not_there_is_a_fault_of_ours(
    operation: Operation, answer: Any
) -> None:
    def nowhere() -> Outcome:
        raise NotImplementedError

    answer(Next(nowhere))
    assert step(operation).trouble == Trouble.BUG
    assert operation.step == "reserve"


def test_wait_looks_again_after_its_delay(operation: Operation, answer: Any) -> None:
    answer(Wait(timedelta(seconds=30), reason="no room"))
    step(operation)
    assert (operation.step, operation.state, operation.detail) == ("reserve", "active", "no room")
    assert 25 < seconds_away(operation) <= 30
    assert operation.lease_token is None


def test_wait_is_no_failure(operation: Operation, answer: Any) -> None:
    answer(Wait(timedelta(0)))
    Operation.objects.update(attempt=7, trouble=Trouble.BUSY, detail="busy")
    step(operation)
    assert (operation.attempt, operation.trouble, operation.detail) == (0, "", "")


def test_wait_is_journalled_when_its_reason_changes(operation: Operation, answer: Any) -> None:
    for reason in ("full", "full", "", "off", "full"):
        answer(Wait(timedelta(0), reason=reason))
        step(operation)
    told = operation.events.filter(what="waiting").values_list("message", flat=True)
    assert list(told) == ["full", "off", "full"]


def test_a_wake_up_that_came_while_the_step_ran_is_kept(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reserve(host: Host, facts: Any) -> Outcome:
        wake(operation)
        return Wait(timedelta(hours=1))

    monkeypatch.setitem(furnish.steps, "reserve", Step(reserve, False, True))
    assert seconds_away(step(operation)) <= 0


def test_a_wake_up_while_a_step_runs_makes_the_same_worker_look_again(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def reserve(host: Host, facts: Any) -> Outcome:
        ran.append(1)
        if len(ran) == 1:
            wake(operation)
        return Wait(timedelta(hours=1))

    monkeypatch.setitem(furnish.steps, "reserve", Step(reserve, False, True))
    assert engine.advance(operation.uuid, to(None)) == 2


def test_done_ends_it(operation: Operation, answer: Any) -> None:
    answer(Done())
    step(operation)
    assert operation.state == State.SUCCEEDED
    assert operation.ended_at is not None
    assert operation.lease_token is None
    assert engine.claim(operation.uuid) is None


def test_failed_says_why(operation: Operation, answer: Any) -> None:
    answer(Failed("image_unknown", "There is no such image."))
    step(operation)
    assert operation.state == State.FAILED
    assert (operation.error_code, operation.error) == ("image_unknown", "There is no such image.")
    assert operation.events.get(what="ended").message == "There is no such image."


def test_spawn_begins_one_child_on_each_free_subject(
    host: Host, rung: list[UUID], django_capture_on_commit_callbacks: Any
) -> None:
    other = make_host(host.pool, name="other")
    busy = Operation.objects.create(kind="test.furnish", host=other)
    parent = Operation.objects.create(
        kind=furnish_all.kind, pool=host.pool, requested_by="user:alice"
    )
    with django_capture_on_commit_callbacks(execute=True):
        step(parent)
    child = parent.children.get()
    assert (child.host, child.kind, child.requested_by) == (host, "test.furnish", "user:alice")
    assert busy.parent_id is None
    assert rung == [child.uuid]
    assert parent.detail == "2 dark"
    assert 110 < seconds_away(parent) <= 120


def test_spawn_asked_twice_is_asked_once(host: Host) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool)
    step(parent)
    let_time_pass()
    step(parent)
    assert parent.children.count() == 1
    assert parent.children.get().events.count() == 1


def test_spawn_tells_each_child_what_it_should_know(host: Host, answer: Any) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool)
    target = make_host(host.pool, name="target")
    child = Spawn(furnish, [target], timedelta(0), facts_of=lambda host: {"to": host.name})
    operation = Operation.objects.create(kind=furnish.kind, host=host)
    answer(child)
    step(operation)
    assert operation.children.get().facts == {"to": "target"}
    assert not parent.children.exists()


def test_a_childs_success_wakes_its_parent(host: Host, shed: Shed) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool)
    step(parent)
    assert seconds_away(parent) > 100
    run_child(parent, shed)
    parent.refresh_from_db()
    assert parent.children.get().state == State.SUCCEEDED
    assert seconds_away(parent) <= 0


def test_a_childs_failure_leaves_the_parent_to_its_own_clock(host: Host, answer: Any) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool)
    step(parent)
    answer(Failed())
    step(parent.children.get())
    assert seconds_away(parent) > 100


def run_child(parent: Operation, shed: Shed) -> None:
    child = parent.children.get()
    while not child.has_ended:
        Operation.objects.filter(pk=child.pk).update(run_at=Now())
        engine.advance(child.uuid, to(shed))
        child.refresh_from_db()


def test_the_subject_is_read_afresh_for_each_step(operation: Operation, shed: Shed) -> None:
    step(operation)
    Host.objects.update(name="renamed meanwhile")
    step(operation, shed)
    assert list(shed.lamps) == ["renamed meanwhile"]


def test_it_begins_with_the_first_step_and_the_clock_of_its_deadline(operation: Operation) -> None:
    assert (operation.step, operation.deadline_at) == ("", None)
    step(operation)
    assert operation.deadline_at is not None
    assert operation.deadline_at - operation.run_at <= timedelta(minutes=5)
    assert operation.deadline_at - operation.created_at >= timedelta(minutes=5)


def test_a_workflow_without_a_deadline_keeps_the_one_it_was_given(host: Host) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool, deadline_at=Now())
    parent.refresh_from_db()
    given = parent.deadline_at
    assert step(parent).deadline_at == given


def test_the_journal_tells_the_whole_story(operation: Operation, shed: Shed) -> None:
    run_to_end(operation, shed)
    told = operation.events.values_list("what", "step")
    assert list(told) == [
        ("step", "build"),
        ("step", "light"),
        ("step", "publish"),
        ("step", "look"),
        ("ended", "look"),
    ]


def test_one_step_of_a_busy_worker_costs_few_queries(
    operation: Operation, shed: Shed, django_assert_max_num_queries: Any
) -> None:
    engine.advance(operation.uuid, to(shed), at_most=timedelta(0))
    # claim: take, read what it is about; commit: write
    with django_assert_max_num_queries(3):
        engine.advance(operation.uuid, to(shed), at_most=timedelta(0))
    assert connection.in_atomic_block


def test_unknown_kinds_and_steps_are_a_fault_of_ours_and_wait_for_the_release_that_knows_them(
    host: Host,
) -> None:
    kind = Operation.objects.create(kind="from.the.future", host=host)
    assert step(kind).trouble == Trouble.BUG
    Operation.objects.update(state=State.FAILED, ended_at=Now())
    gone = Operation.objects.create(kind=furnish.kind, step="from_the_past", host=host)
    assert step(gone).trouble == Trouble.BUG


def test_a_workflow_registered_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two workflows"):
        Workflow[Host](furnish.kind, subject="host", first="x")
