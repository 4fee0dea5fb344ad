"""What each failure of a step leads to."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction

from hosting.fleet.models import Host
from hosting.operations.choices import State, Trouble
from hosting.operations.models import Operation
from hosting.operations.notices import tell_of
from worker import engine
from worker.hypervisor.port import (
    Busy,
    Gone,
    HypervisorError,
    NoRoom,
    Refused,
    Unreachable,
    UntranslatedFailure,
)
from worker.tests.shed import NEEDS, Shed, furnish
from worker.tests.support import Faulty, let_time_pass, run_to_end, to
from worker.tests.test_engine_outcomes import seconds_away, step
from worker.workflow import Outcome, Step

pytestmark = pytest.mark.django_db


@pytest.fixture
def built(operation: Operation) -> Operation:
    """The operation, about to build."""
    assert step(operation).step == "build"
    return operation


@pytest.fixture
def longest_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)


def failing(error: Exception) -> Any:
    return Faulty(Shed(), before=lambda _number, _name: error)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (Unreachable("timeout"), Trouble.UNREACHABLE),
        (Busy("other_operation"), Trouble.BUSY),
        (Gone("vm"), Trouble.GONE),
    ],
)
def test_what_may_pass_is_tried_again(
    built: Operation, error: HypervisorError, trouble: Trouble, longest_jitter: None
) -> None:
    step(built, failing(error))
    assert (built.state, built.step, built.trouble) == (State.ACTIVE, "build", trouble)
    assert built.detail == str(error)
    assert built.lease_token is None
    assert 1 < seconds_away(built) <= 2
    assert not built.turned_back


def test_tries_grow_apart_up_to_ten_minutes(built: Operation, longest_jitter: None) -> None:
    pauses = []
    for _ in range(12):
        let_time_pass()
        pauses.append(round(seconds_away(step(built, failing(Busy("held"))))))
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]


def test_jitter_is_full() -> None:
    pauses = [engine.backoff(9).total_seconds() for _ in range(200)]
    assert min(pauses) < 100
    assert 400 < max(pauses) <= 512


def test_the_backoff_never_overflows() -> None:
    assert engine.backoff(10_000) <= timedelta(minutes=10)


def test_a_trouble_is_journalled_when_it_changes_and_each_tenth_time(built: Operation) -> None:
    for number in range(1, 26):
        let_time_pass()
        error = Unreachable("timeout") if number != 4 else Busy("held")
        step(built, failing(error))
    told = built.events.filter(what="retrying").values_list("attempt", flat=True)
    assert list(told) == [1, 4, 5, 10, 20]


def test_success_after_trouble_forgets_it(built: Operation) -> None:
    step(built, failing(Busy("held")))
    let_time_pass()
    step(built, Shed())
    assert (built.step, built.trouble, built.detail, built.attempt) == ("light", "", "", 0)


def test_no_answer_from_the_connection_itself_is_tried_again(built: Operation) -> None:
    def connect(_pool: Any) -> Any:
        raise Unreachable("no_master")

    claimed = engine.claim(built.uuid)
    assert claimed is not None
    engine.run_step(claimed, connect, keep=True)
    built.refresh_from_db()
    assert built.trouble == Trouble.UNREACHABLE


def test_a_remote_step_gets_the_hypervisor_of_its_subjects_pool(built: Operation) -> None:
    asked: list[Any] = []

    def connect(pool: Any) -> Any:
        asked.append(pool)
        return Shed()

    engine.advance(built.uuid, connect, at_most=timedelta(0))
    assert built.host is not None
    assert asked == [built.host.pool]


def test_a_remote_step_runs_outside_any_transaction_of_the_engine(
    built: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []

    def build(host: Host, facts: Any, shed: Any) -> Outcome:
        depths.append(len(transaction.get_connection().savepoint_ids))
        raise Busy("held")

    monkeypatch.setitem(furnish.steps, "build", Step(build, True, True))
    step(built)
    assert depths == [0]


def test_a_refusal_turns_back_and_says_why_at_the_end(built: Operation, shed: Shed) -> None:
    run_to_end(built, Faulty(shed, before=lambda n, _: Refused("no_such_sr") if n == 0 else None))
    assert built.state == State.FAILED
    assert (built.error_code, built.turned_back) == ("no_such_sr", True)
    assert built.error == str(Refused("no_such_sr"))
    assert built.events.get(what="turned_back").step == "build"
    assert Host.objects.get().memory_reserved_bytes == 0


def test_a_refusal_is_never_an_undoing_once_the_goal_is_published(
    operation: Operation, shed: Shed
) -> None:
    shed.lamps["xen-1"] = True
    Operation.objects.update(step="look")
    step(operation, failing(Refused("never")))
    assert (operation.step, operation.trouble) == ("look", Trouble.STUCK)
    assert not operation.turned_back
    assert seconds_away(operation) > 590
    let_time_pass()
    assert step(operation, shed).state == State.SUCCEEDED


def test_a_refusal_on_the_way_back_is_tried_again_later(built: Operation) -> None:
    step(built, failing(Refused("first")))
    assert built.step == "clear"
    step(built, failing(Refused("second")))
    assert (built.step, built.trouble) == ("clear", Trouble.STUCK)
    assert built.error_code == "first"
    assert seconds_away(built) > 590


def test_no_room_gives_the_place_back_and_chooses_again(built: Operation, shed: Shed) -> None:
    shed.full = True
    step(built, shed)
    assert (built.step, built.attempt) == ("elsewhere", 0)
    assert built.detail == str(NoRoom("shed_full"))
    step(built)
    assert Host.objects.get().memory_reserved_bytes == 0
    assert (built.step, built.facts["moved"]) == ("reserve", True)
    shed.full = False
    run_to_end(built, shed)
    assert built.state == State.SUCCEEDED
    assert Host.objects.get().memory_reserved_bytes == NEEDS


def test_no_room_is_tried_again_where_no_other_place_is_known(
    built: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(furnish, "no_room", None)
    step(built, failing(NoRoom("shed_full")))
    assert (built.step, built.trouble) == ("build", Trouble.NO_ROOM)


def test_no_room_on_the_way_back_does_not_place_again(built: Operation) -> None:
    step(built, failing(Refused("first")))
    step(built, failing(NoRoom("shed_full")))
    assert (built.step, built.trouble) == ("clear", Trouble.NO_ROOM)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), UntranslatedFailure("NEW_CODE")])
def test_a_fault_of_ours_never_fails_an_operation(built: Operation, error: Exception) -> None:
    step(built, failing(error))
    assert (built.state, built.step, built.trouble) == (State.ACTIVE, "build", Trouble.BUG)
    assert not built.turned_back
    assert 590 < seconds_away(built) <= 600


def test_a_fault_of_ours_leaves_its_traceback_to_operators_alone(built: Operation) -> None:
    step(built, failing(ZeroDivisionError("a secret of the inside")))
    told = built.events.get(what="retrying")
    assert "test_engine_troubles" not in told.message
    assert "a secret" not in told.message + built.detail
    assert "ZeroDivisionError: a secret of the inside" in told.private


def test_a_fault_in_a_ledger_step_takes_its_rows_back(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reserve(host: Host, facts: Any) -> Outcome:
        Host.objects.filter(pk=host.pk).reserve(NEEDS)
        raise ZeroDivisionError

    monkeypatch.setitem(furnish.steps, "reserve", Step(reserve, False, True))
    assert step(operation).trouble == Trouble.BUG
    assert Host.objects.get().memory_reserved_bytes == 0


def test_a_deadlock_is_tried_again_soon_and_is_no_fault(
    operation: Operation, monkeypatch: pytest.MonkeyPatch, longest_jitter: None
) -> None:
    def reserve(host: Host, facts: Any) -> Outcome:
        raise OperationalError("deadlock detected")

    monkeypatch.setitem(furnish.steps, "reserve", Step(reserve, False, True))
    assert step(operation).trouble == Trouble.BUSY
    assert seconds_away(operation) <= 2


def test_what_the_hypervisor_itself_said_is_for_operators(built: Operation) -> None:
    error = Busy("other_operation")
    error.__cause__ = RuntimeError("OTHER_OPERATION_IN_PROGRESS OpaqueRef:1")
    step(built, failing(error))
    told = built.events.get(what="retrying")
    assert "OpaqueRef" not in told.message
    assert "OTHER_OPERATION_IN_PROGRESS" in told.private


def test_a_step_whose_commit_fails_is_done_again_and_not_passed_over(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = engine.claim(operation.uuid)
    assert claimed is not None
    failures = [OperationalError("the server went away")]

    def tell(of: Operation) -> None:
        if failures:
            raise failures.pop()
        tell_of(of)

    monkeypatch.setattr(engine, "tell_of", tell)
    assert engine.run_step(claimed, to(None), keep=True) is False
    operation.refresh_from_db()
    assert (operation.step, operation.facts) == ("reserve", {})
    assert operation.trouble == Trouble.BUSY
