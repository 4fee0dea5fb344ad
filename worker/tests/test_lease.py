"""The statements that are written out say what the ORM would."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from hosting.compute.models import Container, Instance
from hosting.operations.choices import State, What
from hosting.operations.models import Operation, OperationEvent
from worker import lease
from worker.lease import NOW, Note, Sql, later
from worker.tests.support import run_to_end
from worker.tests.worlds import World

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def instance(db: None) -> Instance:
    """One that has everything: a pool, a host, an address, disks, an image's wishes."""
    world = World(device="eth1")
    made = world.add_instance()
    asked = Operation.objects.create(kind="instance.provision", instance=made, requested_by="t")
    run_to_end(asked, world.pool)
    Container.objects.filter(pk=made.container_id).update(
        command=["sh", "-c", "a 'b' %s"], env={"A": "ü"}
    )
    return Instance.objects.get(pk=made.pk)


@pytest.fixture
def operation(instance: Instance) -> Operation:
    return Operation.objects.create(
        kind="instance.restart",
        instance=instance,
        requested_by="t",
        facts={"tried": ["x"], "n": 2**40},
    )


def taken(operation: Operation) -> Operation:
    found = lease.take(operation.pk, MINUTE)
    assert found is not None
    return found


def columns(row: models.Model, *, but: str = "") -> dict[str, Any]:
    return {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if field.name != but
    }


def test_what_is_taken_is_the_row_as_it_is_then(operation: Operation) -> None:
    assert columns(taken(operation)) == columns(Operation.objects.get(pk=operation.pk))


def test_an_instance_is_read_with_all_that_its_steps_need_in_one_query(
    operation: Operation,
) -> None:
    held = taken(operation)
    with CaptureQueriesContext(connection) as asked:
        assert lease.read_subject(held)
        read = held.subject
        got = [columns(read), columns(read.container), columns(read.container.version)]
        pool = columns(read.pool, but="candidates")
    assert len(asked) == 1
    again = Instance.objects.select_related("container__version", "pool").get(pk=read.pk)
    assert got == [columns(again), columns(again.container), columns(again.container.version)]
    assert again.pool is not None
    assert pool == columns(again.pool, but="candidates")


def test_what_is_held_no_more_is_neither_read_nor_written(operation: Operation) -> None:
    held = taken(operation)
    Operation.objects.update(lease_token=None)
    assert not lease.read_subject(held)
    assert not lease.write(held, {"step": "gone"}, Note(What.STEP, "gone"))
    assert not OperationEvent.objects.filter(step="gone").exists()


def test_a_row_that_was_written_comes_back_with_what_others_wrote_meanwhile(
    operation: Operation,
) -> None:
    held = taken(operation)
    Operation.objects.update(cancel_requested_at=operation.created_at)
    facts = {"quotes": "'\"%s", "none": None}
    assert lease.write(held, {"facts": facts, "run_at": later(MINUTE), "detail": "a 'b' %s"})
    assert columns(held) == columns(Operation.objects.get(pk=held.pk))
    assert (held.facts, held.cancel_requested_at) == (facts, operation.created_at)
    assert not held.is_due


def test_a_line_of_the_journal_may_say_what_the_row_came_to_be(operation: Operation) -> None:
    held = taken(operation)
    ended = {"state": State.FAILED, "ended_at": NOW, "lease_token": None}
    assert lease.write(held, ended, Note(What.ENDED, "look", 3, Sql("state")))
    (line,) = OperationEvent.objects.filter(operation=held, what=What.ENDED)
    assert (line.step, line.attempt, line.message, line.private) == ("look", 3, "failed", "")


def test_columns_that_are_not_there_are_a_fault_of_ours(operation: Operation) -> None:
    with pytest.raises(Exception, match="has no field named 'stepp'"):
        lease.write(taken(operation), {"stepp": "x"})
