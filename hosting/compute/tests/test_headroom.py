"""Would everything run on if a host died?"""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from pytest_django import DjangoAssertNumQueries

from hosting.compute.headroom import Loss, losses, losses_of
from hosting.compute.tests.makers import make_instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host, make_pool

A, B, C = (uuid4() for _ in range(3))


@pytest.mark.parametrize(
    ("free", "held", "expected"),
    [
        ({A: 0, B: 4, C: 4}, [4, 4], Loss(2, 0)),
        ({A: 99, B: 4, C: 4}, [5], Loss(0, 1)),  # its own room dies with it
        ({A: 0, B: 4, C: 4}, [3, 3, 3], Loss(2, 1)),  # eight are free, but in two places
        ({A: 0, B: 6, C: 4}, [2, 2, 5], Loss(3, 0)),  # the largest first
        ({A: 0}, [1], Loss(0, 1)),
        ({}, [1], Loss(0, 1)),
    ],
)
def test_each_is_put_where_most_is_free(
    free: dict[UUID, int], held: list[int], expected: Loss
) -> None:
    assert losses(free, {A: held}) == {A: expected}


@pytest.mark.django_db
def test_only_hosts_that_take_instances_have_room(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    pool = make_pool()
    host, other = make_host(pool, name="a"), make_host(pool, name="b")
    make_host(name="of another pool")
    make_instance(host=host)
    with django_assert_num_queries(3):
        assert losses_of(pool) == {host.pk: Loss(1, 0)}
    Host.objects.filter(pk=other.pk).update(state=HostState.CORDONED)
    assert losses_of(pool) == {host.pk: Loss(0, 1)}
