"""What Celery rings for, and what it needs to know."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings as configured
from django.db import OperationalError
from django.db.models.functions import Now

from hosting.alarms.models import Alarm
from hosting.celery import app
from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import make_pool
from hosting.operations.choices import Queue, longest_step
from hosting.operations.models import Operation
from worker import tasks
from worker.connections import (
    Connections,
    candidates_from,
    candidates_to_store,
    connection_of,
    keep_candidates,
)
from worker.hypervisor.port import Candidate
from worker.tests.shed import Shed

CANDIDATES = (Candidate("192.0.2.1", "PEM 1", UUID(int=7)), Candidate("[::1]:443", "PEM 2"))


@pytest.mark.django_db
def test_advance_runs_the_steps_of_one_operation(
    operation: Operation, shed: Shed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here:
        def of(self, _pool: Pool) -> Shed:
            return shed

    monkeypatch.setattr(tasks, "_connections", Here())
    tasks.advance(str(operation.uuid))
    operation.refresh_from_db()
    assert operation.step == "light"


@pytest.mark.django_db
def test_advancing_what_is_not_there_harms_nothing() -> None:
    tasks.advance(str(uuid4()))


@pytest.mark.django_db
def test_dispatch_rings_for_what_is_due(
    operation: Operation, rung: list[UUID], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        tasks.dispatch()
    assert rung == [operation.uuid]


@pytest.mark.django_db
def test_watch_opens_alarms(operation: Operation) -> None:
    Operation.objects.update(deadline_at=Now())
    tasks.watch()
    assert Alarm.objects.filter(tag=f"operation-late:{operation.uuid}").exists()


def test_everything_that_is_rung_for_by_name_exists() -> None:
    app.loader.import_default_modules()
    names = {entry["task"] for entry in configured.CELERY_BEAT_SCHEDULE.values()}
    assert names | {"worker.tasks.advance"} <= set(app.tasks)


def test_celery_knows_our_queues_and_no_others() -> None:
    assert set(configured.CELERY_TASK_QUEUES) == set(Queue.values)
    assert configured.CELERY_TASK_DEFAULT_QUEUE == Queue.TENANT


def test_limits_stand_in_the_order_of_the_design() -> None:
    soft = longest_step(Queue.TENANT).total_seconds()
    assert (soft, soft * 1.5) == (
        configured.CELERY_TASK_SOFT_TIME_LIMIT,
        configured.CELERY_TASK_TIME_LIMIT,
    )


# -------------------------------------------------------------------------------------------- connections


@pytest.mark.django_db
def test_a_pool_is_reached_as_its_row_says() -> None:
    pool = make_pool(candidates=candidates_to_store(CANDIDATES))
    connection = connection_of(pool)
    assert (connection.url, connection.username) == ("https://192.0.2.1", "root")
    assert connection.password == "secret"
    assert connection.candidates == CANDIDATES


def test_candidates_are_stored_as_json() -> None:
    stored = candidates_to_store(CANDIDATES)
    assert candidates_from(json.loads(json.dumps(stored))) == CANDIDATES


@pytest.mark.django_db
def test_what_a_login_learned_replaces_what_was_known() -> None:
    pool = make_pool(candidates=candidates_to_store(CANDIDATES))
    keep_candidates(pool.pk)(CANDIDATES[:1])
    pool.refresh_from_db()
    assert candidates_from(pool.candidates) == CANDIDATES[:1]


@pytest.mark.django_db
def test_a_login_does_not_fail_for_what_cannot_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(type(Pool.objects.all()), "update", gone)
    keep_candidates(uuid4())(CANDIDATES)


@pytest.mark.django_db
def test_one_driver_serves_until_its_credentials_change() -> None:
    made: list[Any] = []

    def connect(pool: Pool) -> Any:
        made.append(pool.username)
        return object()

    connections, pool = Connections(connect), make_pool()
    first = connections.of(pool)
    assert connections.of(Pool.objects.get()) is first
    assert connections.of(make_pool()) is not first
    pool.username = "other"
    assert connections.of(pool) is not first
    assert made == ["root", "root", "other"]


@pytest.mark.django_db
def test_a_driver_says_nothing_before_it_is_asked() -> None:
    pool = make_pool(candidates=candidates_to_store(CANDIDATES))
    assert Connections().of(pool) is not None
