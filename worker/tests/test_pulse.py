"""A step that takes long is held while its worker lives, and soon taken up when that is dead."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from hosting.operations.models import Operation
from hosting.operations.services import wake
from worker import engine, lease, pulse
from worker.tests.image_cases import ImportImageCase
from worker.tests.shed import Shed
from worker.tests.support import let_time_pass, run_to_end, to

SHORT = timedelta(seconds=3)
"""Of a lease here: it is renewed twice each second."""
PATIENCE = 20.0

Renewals = Callable[[int], None]
"""Waits until there were so many."""


@pytest.fixture
def answers() -> list[bool]:
    """What each renewal said."""
    return []


@pytest.fixture
def pids() -> list[int]:
    """Of the server's processes that each was said to."""
    return []


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch, answers: list[bool], pids: list[int]) -> Renewals:
    real, happened = lease.renew, threading.Semaphore(0)

    def renew(operation: Operation, length: timedelta) -> bool:
        try:
            answers.append(real(operation, length))
            pids.append(connection.connection.info.backend_pid)
        finally:
            happened.release()
        return answers[-1]

    def wait_for(number: int) -> None:
        for _ in range(number):
            assert happened.acquire(timeout=PATIENCE)

    monkeypatch.setattr(lease, "renew", renew)
    return wait_for


def claimed(operation: Operation) -> Operation:
    mine = engine.claim(operation.uuid)
    assert mine is not None
    return mine


@pytest.mark.django_db(transaction=True)
def test_a_step_that_takes_longer_than_a_lease_keeps_it(
    operation: Operation, renewals: Renewals, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Operation | None] = []

    class Slow(Shed):
        def make(self, name: str) -> None:
            Operation.objects.update(leased_until=Now())
            renewals(1)
            taken.append(engine.claim(operation.uuid))
            super().make(name)

    monkeypatch.setattr(engine, "LEASE", SHORT)
    assert engine.advance(operation.uuid, to(Slow())) == 3
    assert taken == [None]


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_is_renewed_lasts_as_long_again(
    operation: Operation, renewals: Renewals
) -> None:
    with pulse.held(claimed(operation), SHORT, at_most=timedelta(minutes=1)):
        Operation.objects.update(leased_until=Now())
        renewals(2)
    assert Operation.objects.filter(leased_until__gt=Now() + SHORT / 2).exists()


@pytest.mark.django_db(transaction=True)
def test_nothing_but_the_lease_is_renewed(operation: Operation, renewals: Renewals) -> None:
    """Of a wake-up the engine knows by `run_at`, which must be as it was when the step began."""
    mine = claimed(operation)
    with pulse.held(mine, SHORT, at_most=timedelta(minutes=1)):
        before = dict(vars(mine))
        wake(operation)
        renewals(1)
        assert vars(mine) == before
    assert not Operation.objects.filter(run_at=mine.run_at).exists()


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_is_lost_is_left_to_who_has_it(
    operation: Operation, renewals: Renewals, answers: list[bool]
) -> None:
    mine = claimed(operation)
    let_time_pass()
    others = claimed(operation)
    with pulse.held(mine, SHORT, at_most=timedelta(minutes=1)):
        renewals(1)
    assert answers == [False]
    assert Operation.objects.filter(
        lease_token=others.lease_token, leased_until=others.leased_until
    ).exists()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_breaks_off_is_asked_again(
    operation: Operation, renewals: Renewals, pids: list[int]
) -> None:
    with pulse.held(claimed(operation), SHORT, at_most=timedelta(minutes=1)):
        renewals(1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pids[0]])
        Operation.objects.update(leased_until=Now())
        renewals(2)
    assert len(set(pids)) == 2
    assert Operation.objects.filter(leased_until__gt=Now()).exists()


@pytest.mark.django_db(transaction=True)
def test_who_takes_longer_than_any_step_may_is_held_no_more(
    operation: Operation, answers: list[bool], renewals: Renewals
) -> None:
    running = threading.active_count()
    with pulse.held(claimed(operation), timedelta(seconds=0), at_most=timedelta(0)):
        while threading.active_count() > running:
            pass
    assert answers == []


@pytest.mark.django_db(transaction=True)
def test_an_import_whose_worker_is_killed_is_taken_up_within_minutes() -> None:
    case = ImportImageCase()
    context = multiprocessing.get_context("fork")
    building = context.Event()

    def build(*arguments: Any, **more: Any) -> Any:
        building.set()
        threading.Event().wait()

    def work() -> None:
        case.images.build = build  # type: ignore[method-assign]
        engine.advance(case.operation.uuid, to(case.hypervisor))

    connection.close()  # each process makes its own
    worker = context.Process(target=work, daemon=True)
    worker.start()
    assert building.wait(PATIENCE)
    worker.kill()
    worker.join(PATIENCE)
    left = Operation.objects.filter(step="fill").values_list(F("leased_until") - Now(), flat=True)
    assert timedelta(0) < left.get() <= timedelta(minutes=2)
    run_to_end(case.operation, case.hypervisor)
    case.assert_arrived()
