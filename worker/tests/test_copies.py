"""When a pool's other hosts get a fresh copy of its database."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.db.models.functions import Now

from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker.copies import copy_databases
from worker.hypervisor.port import Unreachable
from worker.tests.worlds import World

pytestmark = pytest.mark.django_db


class Copier:
    def __init__(self) -> None:
        self.copied = 0
        self.fails = False

    def sync_database(self) -> None:
        if self.fails:
            raise Unreachable("timeout")
        self.copied += 1


@pytest.fixture
def world(db: None) -> World:
    cache.clear()
    return World()


def made_something(world: World, kind: str = "instance.provision") -> None:
    instance = world.add_instance(world.hosts[0])
    Operation.objects.create(
        kind=kind, instance=instance, requested_by="t", state=State.SUCCEEDED, ended_at=Now()
    )


def copy(copier: Any) -> int:
    return copy_databases(lambda _pool: copier)


def test_it_is_copied_once_after_something_was_made(world: World) -> None:
    copier = Copier()
    assert copy(copier) == 0
    made_something(world)
    # Within the one transaction of a test all is one moment: the second look is no earlier.
    assert (copy(copier), copy(copier), copier.copied) == (1, 0, 1)


def test_what_makes_nothing_is_no_reason(world: World) -> None:
    made_something(world, "instance.stop")
    assert copy(Copier()) == 0


def test_a_pool_that_does_not_answer_is_told_the_next_time(world: World) -> None:
    made_something(world)
    copier = Copier()
    copier.fails = True
    assert copy(copier) == 0
    copier.fails = False
    assert copy(copier) == 1
