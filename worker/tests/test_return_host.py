"""A host that comes back: from an evacuation, from the dead, and while a recovery still waits for room."""

from __future__ import annotations

import pytest

from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.services import declare_host_repaired, drain_host, return_host
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import cancel
from worker import engine
from worker.tests.support import let_time_pass, run_to_end, to
from worker.tests.worlds import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None) -> World:
    return World()


def in_maintenance(world: World) -> Host:
    host = world.hosts[0]
    run_to_end(drain_host(host, actor="user:olga"), world.pool)
    return Host.objects.get(pk=host.pk)


def go_on(world: World, operation: Operation) -> Operation:
    let_time_pass()
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    return operation


def test_what_an_evacuation_switched_off_is_switched_on_again(world: World) -> None:
    host = in_maintenance(world)
    assert not world.pool.hosts_by_uuid[host.pk].enabled
    assert run_to_end(return_host(host, actor="user:olga"), world.pool).state == State.SUCCEEDED
    assert world.pool.hosts_by_uuid[host.pk].enabled
    assert Host.objects.get(pk=host.pk).state == HostState.ACCEPTING


def test_one_that_still_boots_is_waited_for(world: World) -> None:
    host = in_maintenance(world)
    world.pool.fall_silent(host.pk)
    operation = go_on(world, return_host(host, actor="user:olga"))
    assert (operation.step, operation.detail) == ("enable", "The host does not answer yet.")
    world.pool.silent.clear()
    assert run_to_end(operation, world.pool).state == State.SUCCEEDED


def test_called_off_it_stays_in_maintenance(world: World) -> None:
    host = in_maintenance(world)
    operation = return_host(host, actor="user:olga")
    cancel(operation, requested_by="user:olga")
    assert run_to_end(operation, world.pool).state == State.CANCELLED
    assert Host.objects.get(pk=host.pk).state == HostState.MAINTENANCE
    assert not world.pool.hosts_by_uuid[host.pk].enabled


def test_a_host_that_is_not_in_maintenance_is_left_as_it_is(world: World) -> None:
    operation = Operation.objects.create(
        kind="host.return", host=world.hosts[0], requested_by="user:olga"
    )
    done = run_to_end(operation, world.pool)
    assert (done.state, done.error_code) == (State.FAILED, "host_not_in_maintenance")


def test_a_dead_host_that_was_repaired_makes_room_for_what_waits(world: World) -> None:
    """Its recovery waits for room, and would otherwise stand in the way of the only room there is."""
    host = world.hosts[0]
    instance = world.add_instance(world.hosts[1])
    Host.objects.filter(pk=host.pk).update(state=HostState.DEAD)
    recovery = Operation.objects.create(
        kind="host.recover",
        host=host,
        step="restart",
        facts={"held": [str(instance.pk)]},
        requested_by="system:reconcile",
    )
    waiting = Operation.objects.create(
        kind="instance.migrate", instance=instance, requested_by="system:reconcile"
    )
    assert go_on(world, recovery).state == State.ACTIVE
    declare_host_repaired(host, actor="user:olga")
    returning = return_host(host, actor="user:olga")
    assert go_on(world, recovery).state == State.SUPERSEDED
    Operation.objects.filter(pk=waiting.pk).delete()
    assert run_to_end(returning, world.pool).state == State.SUCCEEDED
    assert Host.objects.get(pk=host.pk).state == HostState.ACCEPTING
