"""Asking for operations, waking them, and ringing for them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from hosting.catalog.models import Image
from hosting.compute.models import Instance
from hosting.errors import Conflict
from hosting.fleet.models import Host, Pool
from hosting.fleet.tests.makers import make_host, make_pool
from hosting.networks.models import Segment
from hosting.operations import bell, selectors, services
from hosting.operations.choices import Queue, State, Trouble
from hosting.operations.models import SUBJECTS, Operation, OperationEvent, subject_name
from hosting.warm.models import Blank

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    heard: list[UUID] = []
    monkeypatch.setattr(bell, "_ring", lambda asked: heard.extend(uuid for uuid, _ in asked))
    return heard


@pytest.fixture
def host(db: None) -> Host:
    return make_host()


def ask(host: Host, kind: str = "host.evacuate", **more: Any) -> Operation:
    return services.request(kind, host, requested_by="user:alice", **more)


def test_it_is_due_at_once_and_a_worker_is_rung_on_commit(
    host: Host, rung: list[UUID], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        operation = ask(host, facts={"reason": "fan"})
        assert rung == []
    assert rung == [operation.uuid]
    assert Operation.objects.due().get().facts == {"reason": "fan"}
    assert operation.events.get().message == "by user:alice"


def test_a_subject_has_one_active_operation(host: Host) -> None:
    ask(host)
    with pytest.raises(Conflict) as refused:
        ask(host, "host.enable")
    assert refused.value.code == "operation_in_progress"
    Operation.objects.update(state=State.SUCCEEDED, ended_at=Now())
    assert ask(host, "host.enable").state == State.ACTIVE


def test_the_same_key_answers_with_the_same_operation(host: Host) -> None:
    first = ask(host, idempotency_key="k")
    assert ask(host, idempotency_key="k") == first
    Operation.objects.update(state=State.SUCCEEDED, ended_at=Now())
    assert ask(host, idempotency_key="k") == first
    assert Operation.objects.count() == 1


def test_a_key_stands_for_one_request(host: Host) -> None:
    ask(host, idempotency_key="k")
    for subject, kind in ((make_host(), "host.evacuate"), (host, "x")):
        with pytest.raises(Conflict) as refused:
            ask(subject, kind, idempotency_key="k")
        assert refused.value.code == "idempotency_key_reused"


def test_a_new_key_does_not_get_around_the_one_active_operation(host: Host) -> None:
    ask(host, idempotency_key="k")
    with pytest.raises(Conflict) as refused:
        ask(host, idempotency_key="another")
    assert refused.value.code == "operation_in_progress"


def test_another_broken_rule_is_not_taken_for_a_conflict(host: Host) -> None:
    with pytest.raises(IntegrityError, match="requested_by"):
        services.request("x", host, requested_by=None)  # type: ignore[arg-type]


def test_everyone_has_keys_of_their_own(host: Host) -> None:
    mine = ask(host, idempotency_key="k")
    theirs = services.request("x", make_host(), requested_by="user:bob", idempotency_key="k")
    assert theirs != mine


@pytest.mark.django_db(transaction=True)
def test_of_many_who_ask_at_once_one_gets_it(host: Host) -> None:
    gate, won, lost = threading.Barrier(6), list[Operation](), list[Conflict]()

    def compete() -> None:
        gate.wait(timeout=10)
        try:
            won.append(ask(host))
        except Conflict as conflict:
            lost.append(conflict)
        finally:
            connection.close()

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (len(won), len(lost)) == (1, 5)


def test_waking_makes_it_due_and_rings(
    host: Host, rung: list[UUID], django_capture_on_commit_callbacks: Any
) -> None:
    operation = ask(host)
    Operation.objects.update(run_at=Now() + timedelta(hours=1))
    with django_capture_on_commit_callbacks(execute=True):
        assert services.wake(operation)
    assert Operation.objects.due().exists()
    assert rung == [operation.uuid]


def test_what_has_ended_cannot_be_woken(host: Host) -> None:
    operation = ask(host)
    Operation.objects.update(state=State.SUCCEEDED, ended_at=Now())
    assert not services.wake(operation)


def test_a_change_wakes_what_is_about_it_and_nothing_else(host: Host) -> None:
    about_host = ask(host)
    about_pool = services.request("pool.x", host.pool, requested_by="t")
    named = ask(make_host())
    other = ask(make_host())
    Operation.objects.update(run_at=Now() + timedelta(hours=1))
    woken = services.wake_about(
        {"host": {host.pk}, "pool": {host.pool_id}, "instance": {uuid4()}}, {named.pk}
    )
    assert woken == 3
    due = set(Operation.objects.due().values_list("uuid", flat=True))
    assert due == {about_host.pk, about_pool.pk, named.pk}
    assert other.pk not in due


def test_a_change_that_nobody_waits_for_costs_one_query(
    host: Host, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        assert services.wake_about({"host": {host.pk}}) == 0


@pytest.mark.parametrize("trouble", [Trouble.BUG, Trouble.STUCK])
def test_a_change_does_not_wake_what_meets_a_fault_of_ours(host: Host, trouble: Trouble) -> None:
    operation = ask(host)
    Operation.objects.update(run_at=Now() + timedelta(hours=1), trouble=trouble)
    assert services.wake_about({"host": {host.pk}}) == 0
    assert services.wake(operation), "a person may always"


def test_what_a_worker_holds_is_woken_and_not_rung_for(
    host: Host, rung: list[UUID], commits: Any
) -> None:
    held = Operation.objects.create(kind="x", host=host)
    Operation.objects.update(
        run_at=Now() + timedelta(hours=1), leased_until=Now() + timedelta(minutes=1)
    )
    with commits():
        assert services.wake_about({"host": {host.pk}}) == 1
    assert rung == []
    assert Operation.objects.filter(pk=held.pk, run_at__lte=Now()).exists()
    Operation.objects.update(leased_until=Now())
    with commits():
        services.wake_about({"host": {host.pk}})
    assert rung == [held.pk]


# ---------------------------------------------------------------------------------------------- dispatch


@pytest.fixture
def commits(django_capture_on_commit_callbacks: Any) -> Any:
    return lambda: django_capture_on_commit_callbacks(execute=True)


def test_what_is_due_is_rung_for_once_in_thirty_seconds(
    host: Host, rung: list[UUID], commits: Any
) -> None:
    operation = Operation.objects.create(kind="x", host=host)
    with commits():
        assert services.dispatch_due() == 1
        assert services.dispatch_due() == 0
    assert rung == [operation.uuid]
    operation.refresh_from_db()
    assert operation.dispatched_until - operation.run_at >= timedelta(seconds=30)
    Operation.objects.update(dispatched_until=Now())
    with commits():
        assert services.dispatch_due() == 1


def test_what_was_rung_for_by_its_maker_is_not_rung_for_again(host: Host) -> None:
    ask(host)
    assert services.dispatch_due() == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"run_at": Now() + timedelta(hours=1)},
        {"leased_until": Now() + timedelta(hours=1)},
        {"state": State.QUEUED},
        {"state": State.FAILED, "ended_at": Now()},
    ],
)
def test_nobody_is_rung_for_what_is_not_due(host: Host, changed: dict[str, Any]) -> None:
    Operation.objects.create(kind="x", host=host)
    Operation.objects.update(**changed)
    assert services.dispatch_due() == 0


def test_a_storm_in_one_queue_does_not_starve_another(
    host: Host, monkeypatch: pytest.MonkeyPatch, rung: list[UUID], commits: Any
) -> None:
    monkeypatch.setattr(services, "_MOST_AT_ONCE", 2)
    for _ in range(4):
        Operation.objects.create(kind="instance.start", host=make_host(host.pool))
    recovery = Operation.objects.create(kind="host.recover", host=host)
    image = Operation.objects.create(kind="image.import", host=make_host(host.pool))
    with commits():
        assert services.dispatch_due() == 4
    assert {recovery.uuid, image.uuid} <= set(rung)


def test_every_kind_is_in_exactly_one_queue(host: Host) -> None:
    for kind in ("host.recover", "image.import", "instance.start"):
        Operation.objects.create(kind=kind, host=make_host(host.pool))
    counts = [Operation.objects.all().in_queue(queue).count() for queue in Queue]
    assert counts == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_two_dispatchers_do_not_ring_for_the_same(host: Host, rung: list[UUID]) -> None:
    for _ in range(20):
        Operation.objects.create(kind="x", host=make_host(host.pool))
    gate = threading.Barrier(4)

    def compete() -> None:
        gate.wait(timeout=10)
        services.dispatch_due()
        connection.close()

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(rung) == len(set(rung)) == 20


# ----------------------------------------------------------------------------------------------- the rows


def test_it_is_about_exactly_one_thing(host: Host) -> None:
    for subjects in ({}, {"host": host, "pool": host.pool}):
        with pytest.raises(IntegrityError, match="operation_has_one_subject"), transaction.atomic():
            Operation.objects.create(kind="x", **subjects)


def test_it_says_what_it_is_about(host: Host) -> None:
    about_host = Operation.objects.create(kind="x", host=host)
    about_pool = Operation.objects.create(kind="x", pool=host.pool)
    assert (about_host.subject, about_host.subject_uuid) == (host, host.pk)
    assert (about_pool.subject, about_pool.subject_uuid) == (host.pool, host.pool_id)
    subjects = [Pool(), Host(), Instance(), Image(), Segment(), Blank()]
    assert [subject_name(subject) for subject in subjects] == list(SUBJECTS)
    with pytest.raises(TypeError):
        subject_name(about_host)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ({"state": "lost"}, "operation_state_is_known|operation_ended_when_it_ended"),
        ({"trouble": "lost"}, "operation_trouble_is_known"),
        ({"state": "failed"}, "operation_ended_when_it_ended"),
        ({"ended_at": Now()}, "operation_ended_when_it_ended"),
        ({"state": "queued", "lease_token": uuid4()}, "operation_lease_only_while_active"),
        ({"state": "superseded", "ended_at": Now()}, "operation_superseded_by_something"),
    ],
)
def test_the_database_refuses_rows_that_make_no_sense(
    host: Host, fault: dict[str, Any], rule: str
) -> None:
    operation = ask(host)
    with pytest.raises(IntegrityError, match=rule), transaction.atomic():
        Operation.objects.filter(pk=operation.pk).update(**fault)


def test_nothing_supersedes_itself(host: Host) -> None:
    operation = ask(host)
    with pytest.raises(IntegrityError, match="operation_superseded_by_another"):
        Operation.objects.update(superseded_by=operation)


def test_the_journal_is_never_rewritten(host: Host) -> None:
    ask(host)
    with pytest.raises(IntegrityError, match="only ever added to"):
        OperationEvent.objects.update(message="it was not me")


def test_selectors_show_history_newest_first(host: Host) -> None:
    old = ask(host)
    Operation.objects.update(state=State.FAILED, ended_at=Now())
    new = ask(host)
    ask(make_host(make_pool(name="other")))
    assert list(selectors.operations_about(host)) == [new, old]
    assert selectors.active_operation_about(host) == new
    assert selectors.active_operations().count() == 2
    assert [event.what for event in selectors.journal_of(old)] == ["requested"]
    assert old.has_ended is False
    old.refresh_from_db()
    assert (old.has_ended, old.is_retrying) == (True, False)
