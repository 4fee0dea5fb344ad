"""Many workers, dead workers, late workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from hosting.fleet.models import Host
from hosting.operations.choices import Queue, State, kinds_in, longest_step
from hosting.operations.models import Operation
from hosting.operations.services import cancel
from worker import engine, lease
from worker.tests.shed import NEEDS, Shed, furnish, furnish_all
from worker.tests.support import run_to_end, to
from worker.tests.test_engine_outcomes import step
from worker.workflow import Outcome


def race(number: int, run: Callable[[], Any]) -> list[Any]:
    """Run it in so many threads at the same moment, each with a connection of its own."""
    gate, answers, errors = threading.Barrier(number), list[Any](), list[BaseException]()

    def compete() -> None:
        try:
            gate.wait(timeout=10)
            answers.append(run())
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=compete) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not errors, errors
    return answers


@pytest.mark.django_db(transaction=True)
def test_only_one_of_many_workers_gets_the_lease(operation: Operation) -> None:
    won = race(8, lambda: engine.claim(operation.uuid))
    assert len([claimed for claimed in won if claimed is not None]) == 1


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_do_everything_once(operation: Operation, shed: Shed) -> None:
    def work() -> None:
        for _ in range(10):
            engine.advance(operation.uuid, to(shed))
            Operation.objects.active().update(run_at=Now())

    race(4, work)
    run_to_end(operation, shed)
    assert shed.made == 1
    assert Host.objects.get().memory_reserved_bytes == NEEDS
    assert operation.events.filter(what="step").count() == 4


@pytest.mark.django_db(transaction=True)
def test_children_that_end_while_the_parent_asks_again_do_not_deadlock(host: Host) -> None:
    parent = Operation.objects.create(kind=furnish_all.kind, pool=host.pool)
    shed = Shed()

    def work() -> None:
        for _ in range(30):
            for uuid in Operation.objects.active().values_list("uuid", flat=True):
                engine.advance(uuid, to(shed))
                # One row at a time: an update of many locks them in an order of its own, and would
                # bring about the very deadlock that the engine has to avoid.
                Operation.objects.active().filter(uuid=uuid).update(run_at=Now())

    race(3, work)
    run_to_end(parent, shed)
    assert parent.state == State.SUCCEEDED
    assert not parent.events.filter(what="retrying").exists()


@pytest.mark.django_db
def test_a_late_worker_cannot_commit(operation: Operation) -> None:
    late = engine.claim(operation.uuid)
    assert late is not None
    Operation.objects.update(leased_until=Now())
    assert engine.claim(operation.uuid) is not None
    with pytest.raises(engine.LeaseLost):
        engine.run_step(late, to(None), keep=False)
    assert Host.objects.get().memory_reserved_bytes == 0


@pytest.mark.django_db
def test_a_late_worker_drops_its_result_and_stops(operation: Operation, shed: Shed) -> None:
    step(operation)

    class Slow(Shed):
        def make(self, name: str) -> None:
            super().make(name)
            Operation.objects.update(leased_until=Now())
            assert engine.claim(operation.uuid) is not None

    assert engine.advance(operation.uuid, to(Slow())) == 0
    operation.refresh_from_db()
    assert operation.step == "build"


@pytest.mark.django_db
def test_a_dead_workers_operation_is_taken_over_when_its_lease_is_over(
    operation: Operation,
) -> None:
    assert engine.claim(operation.uuid) is not None
    assert engine.claim(operation.uuid) is None
    Operation.objects.update(leased_until=Now())
    taken = engine.claim(operation.uuid)
    assert taken is not None
    assert taken.attempt == 2


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["test.furnish", "image.import"])
def test_what_a_dead_worker_held_is_free_after_two_minutes(host: Host, kind: str) -> None:
    operation = Operation.objects.create(kind=kind, host=host)
    claimed = engine.claim(operation.uuid)
    assert claimed is not None
    assert claimed.leased_until - claimed.run_at >= timedelta(minutes=2)
    assert claimed.leased_until - claimed.run_at < timedelta(minutes=2, seconds=30)


@pytest.mark.parametrize("queue", Queue)
def test_a_worker_is_killed_before_its_lease_is_over_or_renews_it(queue: Queue) -> None:
    held = engine.holding(Operation(kind=[*kinds_in(queue), furnish.kind][0]))
    may_act = 1.5 * longest_step(queue)
    assert may_act < engine.LEASE or not isinstance(held, nullcontext)


@pytest.mark.django_db
def test_what_is_not_due_is_not_claimed(operation: Operation) -> None:
    Operation.objects.update(run_at=Now() + timedelta(seconds=5))
    assert engine.claim(operation.uuid) is None
    assert engine.advance(operation.uuid, to(None)) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.QUEUED, State.SUCCEEDED])
def test_what_is_not_active_is_not_claimed(operation: Operation, state: State) -> None:
    ended = None if state == State.QUEUED else Now()
    Operation.objects.update(state=state, ended_at=ended)
    assert engine.claim(operation.uuid) is None


@pytest.mark.django_db
def test_one_message_runs_several_steps_under_one_lease(operation: Operation, shed: Shed) -> None:
    assert engine.advance(operation.uuid, to(shed)) == 3  # reserve, build, light
    operation.refresh_from_db()
    assert operation.step == "light"
    assert operation.lease_token is None


@pytest.mark.django_db
def test_a_worker_whose_time_is_over_leaves_the_rest_to_the_next_ring(
    operation: Operation, shed: Shed
) -> None:
    assert engine.advance(operation.uuid, to(shed), at_most=timedelta(0)) == 1
    operation.refresh_from_db()
    assert (operation.step, operation.lease_token) == ("build", None)
    assert Operation.objects.due().filter(dispatched_until__lte=Now()).exists()


@pytest.mark.django_db
def test_a_worker_goes_no_further_when_its_lease_was_taken_between_two_steps(
    operation: Operation, shed: Shed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine._is_at_hand

    def taken_over(held: Operation, before: str) -> bool:
        Operation.objects.update(lease_token=None)
        return real(held, before)

    monkeypatch.setattr(engine, "_is_at_hand", taken_over)
    assert engine.advance(operation.uuid, to(shed)) == 1
    assert shed.made == 0
    assert furnish.kind == operation.kind


@pytest.mark.django_db
def test_a_pools_certificates_are_not_read_with_each_step(operation: Operation) -> None:
    claimed = engine.claim(operation.uuid)
    assert claimed is not None
    assert "candidates" in claimed.subject.pool.get_deferred_fields()


@pytest.mark.django_db
def test_from_one_remote_step_to_the_next_nothing_is_read_but_what_came_with_the_commit(
    operation: Operation, shed: Shed, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real, build = lease.read_subject, furnish.steps["build"]

    def reading(held: Operation) -> bool:
        read.append(held.step)
        return real(held)

    def cancelled_meanwhile(*arguments: Any) -> Outcome:
        cancel(operation, requested_by="t")
        return build.run(*arguments)

    monkeypatch.setattr(lease, "read_subject", reading)
    monkeypatch.setitem(furnish.steps, "build", replace(build, run=cancelled_meanwhile))
    engine.advance(operation.uuid, to(shed))
    operation.refresh_from_db()
    assert read == ["", "build", "give_back"]
    assert operation.state == State.CANCELLED  # so what others wrote of it was read
    assert not shed.lamps
