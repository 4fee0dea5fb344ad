"""Operations that are waited for."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from hosting.api.tests.conftest import World
from hosting.operations.choices import State
from hosting.operations.models import Operation


def begin(world: World) -> Operation:
    return Operation.objects.create(kind="test", instance=world.instance, requested_by="test")


def test_one_that_has_ended_is_answered_at_once(world: World) -> None:
    began = time.monotonic()
    answer = world.callers["viewer"].get(world.address("tenant-operation") + "?wait=30")
    assert answer.json()["state"] == "succeeded"
    assert time.monotonic() - began < 5


@pytest.mark.django_db(transaction=True)
def test_one_that_goes_on_is_answered_when_the_time_is_over(world: World) -> None:
    path = world.address("tenant-operation", uuid=begin(world).pk)
    began = time.monotonic()
    answer = world.callers["viewer"].get(path + "?wait=1")
    assert (answer.status_code, answer.json()["ended_at"]) == (200, None)
    assert 1 <= time.monotonic() - began < 5


@pytest.mark.django_db(transaction=True)
def test_the_answer_comes_when_it_ends(world: World) -> None:
    operation = begin(world)
    answers: list[Any] = []

    def wait() -> None:
        path = world.address("tenant-operation", uuid=operation.pk)
        answers.append(world.callers["view token"].get(path + "?wait=30"))
        connection.close()

    waiting = threading.Thread(target=wait)
    waiting.start()
    began = time.monotonic()
    Operation.objects.filter(pk=operation.pk).update(state=State.SUCCEEDED, ended_at=Now())
    waiting.join(30)
    assert answers[0].json()["state"] == "succeeded"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("wait", ["61", "-1", "soon", "1.5", ""])
def test_only_a_minute_is_waited(world: World, wait: str) -> None:
    answer = world.callers["viewer"].get(world.address("tenant-operation") + f"?wait={wait}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_strangers_do_not_wait(world: World) -> None:
    path = world.address("tenant-operation", uuid=begin(world).pk) + "?wait=60"
    began = time.monotonic()
    assert world.callers["stranger"].get(path).status_code == 404
    assert world.callers["anonymous"].get(path).status_code == 401
    assert time.monotonic() - began < 5


def test_operators_wait_for_what_is_done_to_hosts(world: World) -> None:
    answer = world.callers["operator"].get(world.address("operation") + "?wait=1")
    assert answer.json()["host"] == str(world.host.pk)


def test_one_is_not_found_through_another_tenant(world: World) -> None:
    path = world.address("tenant-operation", slug="other")
    assert world.callers["stranger"].get(path).status_code == 404


def test_operations_about_hosts_are_no_tenants_business(world: World) -> None:
    path = world.address("tenant-operation", uuid=world.fleet_operation.pk)
    assert world.callers["owner"].get(path).status_code == 404
    told = world.callers["owner"].get(world.address("tenant-operations")).json()["results"]
    assert [one["uuid"] for one in told] == [str(world.operation.pk)]


def test_the_list_can_be_of_those_that_go_on(world: World) -> None:
    active, path = begin(world), world.address("tenant-operations")
    for chosen, expected in (("true", active.pk), ("false", world.operation.pk)):
        told = world.callers["viewer"].get(f"{path}?active={chosen}").json()["results"]
        assert [one["uuid"] for one in told] == [str(expected)]
    assert world.callers["viewer"].get(f"{path}?active=perhaps").status_code == 400


def test_the_journal_keeps_what_is_for_operators_to_itself(world: World) -> None:
    world.operation.events.create(what="retrying", message="busy", private="Traceback …")
    answer = world.callers["viewer"].get(world.address("tenant-operation-events"))
    assert answer.json()["results"][0]["message"] == "busy"
    assert "Traceback" not in answer.content.decode()
