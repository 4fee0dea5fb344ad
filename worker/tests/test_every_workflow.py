"""What every workflow must survive, whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models.functions import Now

from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import cancel
from worker import engine
from worker.hypervisor.port import HypervisorError, Refused, Unreachable
from worker.tests.case import Case
from worker.tests.cases import CASES
from worker.tests.support import (
    Fault,
    Faulty,
    killed_before_committing,
    never,
    remote_steps_run_twice,
    run_to_end,
    to,
)
from worker.workflow import Workflow

pytestmark = pytest.mark.django_db
every_workflow = pytest.mark.parametrize("kind", sorted(CASES))
"""The name of a case, which is the kind of its workflow but for those that have several ways."""


def test_every_workflow_has_a_case() -> None:
    assert {case.kind for case in CASES.values()} == set(Workflow.registry)


@every_workflow
def test_it_names_only_steps_that_it_has(kind: str) -> None:
    workflow_of(kind).check()


@every_workflow
def test_it_arrives(kind: str) -> None:
    case, _ = run(kind)
    assert case.operation.state == State.SUCCEEDED
    case.assert_arrived()


@every_workflow
def test_remote_steps_may_run_twice(kind: str) -> None:
    with remote_steps_run_twice(workflow_of(kind)):
        case, _ = run(kind)
    assert case.operation.state == State.SUCCEEDED
    case.assert_arrived()


@every_workflow
def test_a_worker_may_die_before_any_commit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in steps_taken(kind):
        case = CASES[kind]()
        with killed_before_committing(step, monkeypatch) as killed, pytest.raises(SystemExit):
            run_to_end(case.operation, case.hypervisor)
        assert killed == [step]
        run_to_end(case.operation, case.hypervisor)
        assert case.operation.state == State.SUCCEEDED
        case.assert_arrived()


@every_workflow
def test_a_worker_may_die_before_any_commit_on_the_way_back(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in calls_that_may_turn_back(kind):
        refused = once(number, Refused("not_here"))
        turned_back, _ = run(kind, before=refused)
        for step in steps_after_turning_back(turned_back.operation):
            case = CASES[kind]()
            faulty = Faulty(case.hypervisor, before=once(number, Refused("not_here")))
            with killed_before_committing(step, monkeypatch) as killed, pytest.raises(SystemExit):
                run_to_end(case.operation, faulty)
            assert killed == [step]
            run_to_end(case.operation, faulty)
            assert case.operation.state == State.FAILED
            case.assert_left_nothing()


@every_workflow
def test_any_reply_may_be_lost(kind: str) -> None:
    for number in range(len(calls_made(kind))):
        case, _ = run(kind, after=once(number, Unreachable("lost", may_have_happened=True)))
        assert case.operation.state == State.SUCCEEDED
        case.assert_arrived()


@every_workflow
def test_any_call_may_be_refused(kind: str) -> None:
    turning = calls_that_may_turn_back(kind)
    for number in range(len(calls_made(kind))):
        case, _ = run(kind, before=once(number, Refused("not_here")))
        expected = State.FAILED if number in turning else State.SUCCEEDED
        assert case.operation.state == expected
        if expected == State.FAILED:
            case.assert_left_nothing()
        else:
            case.assert_arrived()


@every_workflow
def test_a_refusal_on_the_way_back_does_not_stop_it(kind: str) -> None:
    for number in calls_that_may_turn_back(kind):
        _, faulty = run(kind, before=once(number, Refused("not_here")))
        for later in range(number + 1, len(faulty.calls)):
            case, _ = run(kind, before=any_of({number, later}, Refused("not_here")))
            assert case.operation.state == State.FAILED
            case.assert_left_nothing()


@every_workflow
def test_it_may_be_cancelled_before_any_step(kind: str) -> None:
    for before in range(len(steps_taken(kind))):
        case = CASES[kind]()
        for _ in range(before):
            one_step(case)
        cancel(case.operation, requested_by="test")
        run_to_end(case.operation, case.hypervisor)
        if case.operation.state == State.CANCELLED:
            case.assert_left_nothing()
        else:
            assert case.operation.state == State.SUCCEEDED
            case.assert_arrived()


# --------------------------------------------------------------------------------------------------------


def workflow_of(kind: str) -> Workflow[Any]:
    return Workflow.registry[CASES[kind].kind]


def run(kind: str, *, before: Fault = never, after: Fault = never) -> tuple[Case, Faulty]:
    case = CASES[kind]()
    faulty = Faulty(case.hypervisor, before=before, after=after)
    run_to_end(case.operation, faulty)
    return case, faulty


def one_step(case: Case) -> None:
    Operation.objects.filter(pk=case.operation.pk).update(run_at=Now())
    claimed = engine.claim(case.operation.uuid)
    assert claimed is not None
    engine.run_step(claimed, to(case.hypervisor), keep=False)


def calls_made(kind: str) -> list[str]:
    _, faulty = run(kind)
    assert faulty.calls, f"{kind} never calls the hypervisor: has it a real goal?"
    return faulty.calls


def steps_taken(kind: str) -> list[str]:
    """The steps of an undisturbed run, each once, in order."""
    case, _ = run(kind)
    first = workflow_of(kind).first
    taken = case.operation.events.filter(what="step").values_list("step", flat=True)
    return list(dict.fromkeys([first, *taken]))


def steps_after_turning_back(operation: Operation) -> list[str]:
    turn = operation.events.get(what="turned_back")
    later = operation.events.filter(pk__gt=turn.pk, what="step")
    return list(dict.fromkeys(later.values_list("step", flat=True)))


def calls_that_may_turn_back(kind: str) -> list[int]:
    """Numbers of the calls made by steps that a refusal turns back."""
    workflow = workflow_of(kind)
    if workflow.undo is None:
        return []
    case = CASES[kind]()
    made_by: list[str] = []

    def look(_number: int, _name: str) -> None:
        case.operation.refresh_from_db()
        made_by.append(case.operation.step or workflow.first)

    run_to_end(case.operation, Faulty(case.hypervisor, before=look))
    steps = [workflow.steps[name] for name in made_by]
    # While a ledger step spawns and waits, the calls are its children's.
    turning = [n for n, step in enumerate(steps) if step.is_remote and step.can_turn_back]
    assert turning, f"{kind} has a way back that no refusal leads to"
    return turning


def once(number: int, error: HypervisorError) -> Fault:
    return any_of({number}, error)


def any_of(numbers: set[int], error: HypervisorError) -> Callable[[int, str], Any]:
    return lambda call, _name: error if call in numbers else None
