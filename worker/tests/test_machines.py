"""What is done to a VM, beside what every workflow shows."""

from __future__ import annotations

import pytest

from worker import machines
from worker.tests.worlds import World
from worker.workflow import Wait

pytestmark = pytest.mark.django_db


def test_what_is_being_started_is_not_taken_for_stopped() -> None:
    world = World()
    instance = world.add_instance(world.hosts[0])
    assert instance.vm_uuid is not None
    world.pool.end(instance.vm_uuid)
    world.pool.start_on(instance.vm_uuid, world.hosts[0].pk)
    facts = {"grace": machines.grace_from_now()}
    assert isinstance(machines.stop(world.pool, instance, facts), Wait)  # type: ignore[arg-type]
