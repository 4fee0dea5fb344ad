"""What operators do by program: hosts, operations, alarms."""

from __future__ import annotations

import pytest
from django.urls import reverse

from hosting.alarms.models import Alarm
from hosting.alarms.services import open_alarm
from hosting.api.tests.conftest import World
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.operations.choices import State, Trouble
from hosting.operations.models import Operation
from hosting.operations.services import request


@pytest.fixture
def active(world: World) -> Operation:
    return request("instance.provision", world.instance, requested_by="user:x")


def test_a_drain_is_answered_with_an_operation_to_watch(world: World) -> None:
    operator = world.callers["operator"]
    answer = operator.post(world.address("host-drain"))
    assert answer.status_code == 202
    operation = operator.get(answer.headers["Location"]).json()
    assert (operation["kind"], operation["host"]) == ("host.evacuate", str(world.host.pk))
    assert operator.get(world.address("host")).json()["state"] == "draining"


def test_a_drain_is_called_off_by_cancelling_its_operation(world: World) -> None:
    operator = world.callers["operator"]
    uuid = operator.post(world.address("host-drain")).json()["uuid"]
    for _ in range(2):
        answer = operator.post(world.address("operation-cancel", uuid=uuid))
        assert answer.status_code == 202
        assert answer.json()["cancel_requested_at"]


def test_a_host_is_returned_from_maintenance(world: World) -> None:
    Host.objects.update(state=HostState.MAINTENANCE)
    answer = world.callers["operator"].post(world.address("host-return"))
    assert (answer.status_code, answer.json()["kind"]) == (202, "host.return")


def test_a_dead_host_is_declared_repaired(world: World) -> None:
    Host.objects.update(state=HostState.DEAD)
    answer = world.callers["operator"].post(world.address("host-repaired"))
    assert (answer.status_code, answer.json()["state"]) == (200, "maintenance")


def test_a_silent_host_is_vouched_for_by_its_name(world: World) -> None:
    Host.objects.update(state=HostState.SUSPECT)
    recovery = request("host.recover", world.host, requested_by="system:reconcile")
    open_alarm(f"host-not-fenced:{world.host.pk}", title="x")
    operator, path = world.callers["operator"], world.address("host-confirm-off")
    refused = operator.post(path, {"name": "another"})
    assert (refused.status_code, refused.json()["code"]) == (400, "name_differs")
    answer = operator.post(path, {"name": world.host.name})
    assert (answer.status_code, answer.json()["uuid"]) == (202, str(recovery.pk))
    assert Host.objects.get().is_confirmed_off


def test_the_instances_of_a_host_are_shown_with_whose_they_are_and_what_goes_on(
    world: World, active: Operation
) -> None:
    answer = world.callers["operator"].get(world.address("host-instances"))
    (instance,) = answer.json()["results"]
    assert (instance["tenant"], instance["host"]) == ("acme", str(world.host.pk))
    assert (instance["status"], instance["operation"]) == ("creating", str(active.pk))


def test_operators_read_what_tenants_do_not(world: World) -> None:
    world.operation.events.create(what="step", private="Traceback")
    for route, caller in (("operation-events", "operator"), ("tenant-operation-events", "owner")):
        path = world.address(route, uuid=world.operation.pk)
        said = world.callers[caller].get(path).json()["results"]
        assert ("Traceback" in str(said)) == (caller == "operator")


def test_a_waiting_operation_is_woken(world: World, active: Operation) -> None:
    Operation.objects.filter(pk=active.pk).update(
        trouble=Trouble.STUCK, run_at="2100-01-01T00:00:00Z"
    )
    path = world.address("operation-wake", uuid=active.pk)
    answer = world.callers["operator"].post(path)
    assert answer.status_code == 202
    assert not answer.json()["run_at"].startswith("2100")


def test_a_tenant_calls_off_what_it_asked_for(world: World, active: Operation) -> None:
    path = world.address("tenant-operation-cancel", uuid=active.pk)
    answer = world.callers["member"].post(path)
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(
        reverse("tenant-operation", kwargs={"slug": "acme", "uuid": active.pk})
    )


def test_a_tenant_does_not_call_off_operators_work(world: World, active: Operation) -> None:
    """Or its container could never be moved off a host."""
    Operation.objects.filter(pk=active.pk).update(parent=world.fleet_operation)
    path = world.address("tenant-operation-cancel", uuid=active.pk)
    answer = world.callers["owner"].post(path)
    assert (answer.status_code, answer.json()["code"]) == (403, "operation_not_yours")


def test_what_has_ended_is_neither_cancelled_nor_woken(world: World) -> None:
    for route in ("operation-cancel", "operation-wake"):
        answer = world.callers["operator"].post(world.address(route))
        assert (answer.status_code, answer.json()["code"]) == (409, "operation_ended")
    assert Operation.objects.get(pk=world.fleet_operation.pk).state == State.SUCCEEDED


def test_alarms_are_told_apart_by_whether_they_stand(world: World) -> None:
    for tag in ("a:1", "b:1"):
        open_alarm(tag, title=tag)
    Alarm.objects.close(["a:1"])
    operator, path = world.callers["operator"], reverse("alarms")
    tags = {
        query: [alarm["tag"] for alarm in operator.get(path + query).json()["results"]]
        for query in ("", "?standing=true", "?standing=false")
    }
    assert tags == {"": ["b:1", "a:1"], "?standing=true": ["b:1"], "?standing=false": ["a:1"]}
    assert operator.get(path + "?standing=perhaps").json()["code"] == "invalid_request"
