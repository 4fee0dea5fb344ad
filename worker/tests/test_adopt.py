"""VMs that run where nobody put them."""

from __future__ import annotations

import pytest
from django.db.models import F

from hosting.compute.models import Instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_vm
from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker import engine
from worker.tests.support import let_time_pass, run_to_end, to
from worker.tests.worlds import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None) -> World:
    return World()


def adoption_of(instance: Instance) -> Operation:
    return Operation.objects.create(kind="instance.adopt", instance=instance, requested_by="t")


def test_the_ledger_follows_onto_a_host_that_takes_nothing_new(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    Host.objects.filter(pk=world.hosts[1].pk).update(state=HostState.CORDONED)
    world.stray(instance, world.hosts[1])
    run_to_end(adoption_of(instance), world.pool)
    assert world.assert_runs_once(instance).host == world.hosts[1]


def test_one_that_was_started_by_hand_is_counted(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    Instance.objects.all().leave_host(instance)
    run_to_end(adoption_of(world.again(instance)), world.pool)
    assert world.assert_runs_once(instance).host == world.hosts[0]


def test_one_that_runs_no_more_is_left_as_it_is(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    world.pool.end(instance.vm_uuid)  # type: ignore[arg-type]
    operation = run_to_end(adoption_of(instance), world.pool)
    assert operation.state == State.SUCCEEDED
    assert world.again(instance).host == world.hosts[0]


def test_where_the_count_has_no_room_it_says_so_and_follows_it_when_it_moves_on(
    world: World,
) -> None:
    instance = world.add_instance(world.hosts[0])
    seen = make_vm(
        world.row, instance_uuid=instance.pk, power_state="Running", resident_on=world.hosts[1]
    )
    world.stray(instance, world.hosts[1])
    Host.objects.filter(pk=world.hosts[1].pk).update(
        memory_capacity_bytes=F("memory_reserved_bytes")
    )
    operation = adoption_of(instance)
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert "no room" in operation.detail
    world.stray(instance, world.hosts[2])
    type(seen).objects.update(resident_on=world.hosts[2])
    let_time_pass()
    run_to_end(operation, world.pool)
    assert world.assert_runs_once(instance).host == world.hosts[2]
