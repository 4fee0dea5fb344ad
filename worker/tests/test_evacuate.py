"""A host that is emptied: what moves, what waits, and what comes late."""

from __future__ import annotations

import pytest

from hosting.compute.models import Instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
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


def drain(world: World) -> Operation:
    return Operation.objects.create(
        kind="host.evacuate", host=world.hosts[0], requested_by="user:op"
    )


def go_on(world: World, operation: Operation) -> Operation:
    let_time_pass()
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    return operation


def test_a_few_move_at_a_time(world: World) -> None:
    for _ in range(5):
        world.add_instance(world.hosts[0])
    operation = go_on(world, drain(world))
    assert Operation.objects.active().filter(kind="instance.migrate").count() == 3
    go_on(world, operation)
    assert Operation.objects.active().filter(kind="instance.migrate").count() == 3
    run_to_end(operation, world.pool)
    assert world.host_of(Instance.objects.earliest("created_at")) != world.hosts[0].pk
    assert not world.pool.starts


def test_each_tries_its_planned_place_first(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    operation = go_on(world, drain(world))
    move = Operation.objects.get(kind="instance.migrate")
    assert move.facts["planned"] == operation.facts["plan"][str(instance.pk)]
    run_to_end(operation, world.pool)
    assert str(world.host_of(instance)) == move.facts["planned"]


def test_a_plan_that_no_longer_fits_is_not_insisted_on(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    operation = go_on(world, drain(world))
    planned = operation.facts["plan"][str(instance.pk)]
    Host.objects.filter(pk=planned).update(memory_capacity_bytes=1)
    run_to_end(operation, world.pool)
    assert str(world.host_of(instance)) not in {planned, str(world.hosts[0].pk)}


def test_with_no_room_anywhere_it_waits_and_says_why(world: World) -> None:
    world.add_instance(world.hosts[0])
    others = [host.pk for host in world.hosts[1:]]
    Host.objects.filter(pk__in=others).update(memory_capacity_bytes=1)
    operation = drain(world)
    with pytest.raises(AssertionError, match="stuck at empty"):
        run_to_end(operation, world.pool, limit=4)
    operation.refresh_from_db()
    assert operation.detail.startswith("1 on it still. No host for")
    Host.objects.filter(pk__in=others).update(memory_capacity_bytes=2**32)
    assert run_to_end(operation, world.pool).state == State.SUCCEEDED


def test_a_target_that_is_full_after_all_is_passed_over(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    operation = go_on(world, drain(world))
    full = operation.facts["plan"][str(instance.pk)]
    world.pool.full = {host.pk for host in world.hosts if str(host.pk) == full}
    run_to_end(operation, world.pool)
    assert world.assert_runs_once(instance).host_id not in {*world.pool.full, world.hosts[0].pk}


def test_one_that_ends_on_the_way_does_not_hold_it_up(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    operation = go_on(world, drain(world))
    assert instance.vm_uuid is not None
    world.pool.end(instance.vm_uuid)
    with pytest.raises(AssertionError, match="1 on it still"):
        run_to_end(operation, world.pool, limit=5)
    Instance.objects.all().leave_host(instance)  # as the reconciler does
    assert run_to_end(operation, world.pool).state == State.SUCCEEDED


def test_called_off_it_takes_instances_again(world: World) -> None:
    world.add_instance(world.hosts[0])
    operation = go_on(world, drain(world))
    cancel(operation, requested_by="user:op")
    assert run_to_end(operation, world.pool).state == State.CANCELLED
    assert Host.objects.get(pk=world.hosts[0].pk).state == HostState.ACCEPTING


def test_a_host_that_is_not_in_service_is_not_drained(world: World) -> None:
    Host.objects.filter(pk=world.hosts[0].pk).update(state=HostState.DEAD)
    done = run_to_end(drain(world), world.pool)
    assert (done.state, done.error_code) == (State.FAILED, "host_not_in_service")
