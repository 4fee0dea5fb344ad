"""Lists: in pages, and at a price that does not grow with their length."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from hosting.alarms.services import open_alarm
from hosting.api.tests.conftest import World, make_ended
from hosting.catalog.tests.makers import make_image
from hosting.compute.tests.makers import make_container, make_instance
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host, make_pool, make_vm
from hosting.operations.models import Operation
from tenants.services import set_limits
from tenants.tests.makers import make_member, make_tenant, make_token


def more_of_everything(world: World) -> None:
    """One more row in every list."""
    set_limits(world.tenant, {"containers": 100, "vcpus": 100, "disk_bytes": 2**40})
    owner = world.tenant.memberships.get(role="owner")
    container = make_container(world.tenant)
    instance = container.instances.get()
    make_vm(world.host.pool, instance_uuid=instance.pk)
    Operation.objects.create(kind="test", instance=instance, requested_by="test")
    world.operation.events.create(what="step")
    world.fleet_operation.events.create(what="step")
    Host.objects.update(memory_capacity_bytes=2**40)
    make_instance(world.tenant, host=world.host)
    open_alarm(f"x:{uuid4()}", title="x")
    make_image(world.tenant)
    make_ended(instance=world.instance)
    make_member(world.tenant)
    make_tenant(owner=owner.user)
    make_token(owner)
    make_pool()
    make_vm(world.host.pool, resident_on=make_host(world.host.pool, name="xen-2"))


LISTS = {
    "tenants": "owner",
    "tenant-members": "owner",
    "tenant-tokens": "owner",
    "tenant-containers": "owner",
    "tenant-images": "owner",
    "tenant-operations": "owner",
    "tenant-operation-events": "owner",
    "pools": "operator",
    "pool-hosts": "operator",
    "host-instances": "operator",
    "operations": "operator",
    "operation-events": "operator",
    "alarms": "operator",
}


def read(world: World, route: str) -> list[Any]:
    answer = world.callers[LISTS[route]].get(world.address(route))
    results: list[Any] = answer.json()["results"]
    return results


def cost_of(world: World, route: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        read(world, route)
    return len(queries)


@pytest.mark.parametrize("route", LISTS)
def test_a_longer_list_costs_no_more_queries(world: World, route: str) -> None:
    more_of_everything(world)
    short, before = len(read(world, route)), cost_of(world, route)
    for _ in range(3):
        more_of_everything(world)
    assert cost_of(world, route) == before <= 10
    assert len(read(world, route)) > short


@pytest.mark.parametrize("route", LISTS)
def test_page_by_page_everything_is_shown_once(world: World, route: str) -> None:
    for _ in range(3):
        more_of_everything(world)
    everything = read(world, route)
    caller, path = world.callers[LISTS[route]], world.address(route) + "?limit=2"
    shown = []
    while path:
        page = caller.get(path).json()
        assert len(page["results"]) <= 2
        shown += page["results"]
        path = page["next"]
    assert shown == everything
    assert len(shown) > 2


def test_a_row_that_comes_in_between_shifts_no_page(world: World) -> None:
    for name in ("b", "d", "f"):
        make_container(world.tenant, name=name)
    viewer = world.callers["viewer"]
    first = viewer.get(world.address("tenant-containers") + "?limit=2").json()
    make_container(world.tenant, name="a")
    second = viewer.get(first["next"]).json()
    names = [one["name"] for one in [*first["results"], *second["results"]]]
    assert len(names) == len(set(names)) == 4


def test_a_cursor_of_somebodys_making_is_refused(world: World) -> None:
    answer = world.callers["viewer"].get(world.address("tenant-containers") + "?cursor=x")
    assert answer.status_code == 404
