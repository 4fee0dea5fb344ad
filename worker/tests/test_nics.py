"""A container's interface: which address it gets, on which network, and what happens when there is none."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from hosting import labels
from hosting.compute.models import Instance
from hosting.compute.services import delete_container, start_container
from hosting.fleet.models import Pool
from hosting.networks.models import Network, Segment
from hosting.networks.tests.makers import make_segment
from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker import engine
from worker.hypervisor.port import NetworkSpec, Refused
from worker.places import take_place
from worker.tests.support import Faulty, let_time_pass, once_named, run_to_end, to
from worker.tests.worlds import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None) -> World:
    return World(device="eth1")


def provision(world: World, instance: Instance | None = None) -> Operation:
    return Operation.objects.create(
        kind="instance.provision", instance=instance or world.add_instance(), requested_by="t"
    )


def arrived(world: World, hypervisor: Any = None) -> Instance:
    """A new instance that runs now."""
    operation = run_to_end(provision(world), hypervisor or world.pool)
    assert operation.state == State.SUCCEEDED
    assert operation.instance is not None
    return world.again(operation.instance)


def test_a_place_is_taken_without_reading_the_pools_certificates(world: World) -> None:
    arrived(world)
    instance = world.add_instance()
    with CaptureQueriesContext(connection) as asked:
        assert isinstance(take_place(instance, {}), dict)
    assert not [query["sql"] for query in asked if "candidates" in query["sql"]]


def test_a_new_instance_is_started_with_few_queries(
    world: World, django_assert_max_num_queries: Any
) -> None:
    arrived(world)
    operation = provision(world)
    with django_assert_max_num_queries(19):
        engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert operation.step == "await_running"


def stuck(world: World, operation: Operation) -> Operation:
    for _ in range(4):
        let_time_pass()
        engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert operation.state == State.ACTIVE
    return operation


def spec_of(world: World, instance: Instance) -> dict[str, Any]:
    vdi = world.pool.find_vdi(labels.disk_name(instance.pk, "config"))
    assert vdi is not None
    spec: dict[str, Any] = json.loads(world.pool.contents[vdi.uuid])
    return spec


def test_the_guest_is_told_its_address_its_gateway_and_its_name(world: World) -> None:
    instance = arrived(world)
    spec = spec_of(world, instance)
    assert spec["network"] == [
        {
            "device": 0,
            "mac": instance.mac,
            "mtu": 1500,
            "addresses": ["10.64.0.2/24"],
            "gateway4": "10.64.0.1",
        }
    ]
    assert spec["resolv"] == {"nameservers": ["10.64.0.1"], "search": []}
    assert spec["hosts"] == {instance.container.name: ["10.64.0.2"]}


def test_in_a_pool_that_carries_no_networks_a_container_has_none() -> None:
    world = World(device="")
    instance = arrived(world)
    assert (instance.network, instance.ip, instance.mac) == (None, None, "")
    assert not world.pool.vifs_by_uuid
    assert not {"network", "resolv", "hosts"} & spec_of(world, instance).keys()
    assert not Network.objects.exists()


def test_the_second_container_adds_one_call_to_what_it_would_take_without_a_network(
    world: World,
) -> None:
    plain_world = World(device="")
    arrived(world)
    with_nic, without = Faulty(world.pool), Faulty(plain_world.pool)
    arrived(world, with_nic)
    arrived(plain_world, without)
    extra = list(with_nic.calls)
    for call in without.calls:
        extra.remove(call)
    assert extra == ["ensure_vif"]


def test_containers_of_one_tenant_share_its_network(world: World) -> None:
    first, second = arrived(world), arrived(world)
    assert (first.ip, second.ip) == ("10.64.0.2", "10.64.0.3")
    assert first.network == second.network
    assert len(world.pool.networks()) == 1


def test_several_that_come_first_at_once_have_one_network_made(world: World) -> None:
    operations = [provision(world) for _ in range(3)]
    for operation in operations:
        run_to_end(operation, world.pool)
    assert Operation.objects.filter(kind="network.build").count() == 1
    assert len(world.pool.networks()) == 1
    assert len({vif.ipv4_allowed for vif in world.pool.vifs_by_uuid.values()}) == 3


def test_those_that_wait_for_a_network_are_told_when_it_is_there(world: World) -> None:
    first, second = provision(world), provision(world)
    for operation in (first, second):
        engine.advance(operation.uuid, to(world.pool))
    build = Operation.objects.get(kind="network.build")
    engine.advance(build.uuid, to(world.pool))
    due = Operation.objects.due().values_list("pk", flat=True)
    assert set(due) == {first.pk, second.pk}


def test_an_address_that_is_given_back_is_given_again(world: World) -> None:
    instance = arrived(world)
    run_to_end(delete_container(container=instance.container, requested_by="t"), world.pool)
    assert arrived(world).ip == instance.ip


def test_one_that_failed_gives_its_address_back(world: World) -> None:
    faulty = Faulty(world.pool, before=once_named("ensure_vif", Refused("not_here")))
    operation = run_to_end(provision(world), faulty)
    assert operation.state == State.FAILED
    assert not Instance.objects.exclude(ip=None)


def test_one_that_stops_and_starts_keeps_its_address(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    assert instance.vm_uuid is not None
    world.pool.end(instance.vm_uuid)
    Instance.objects.all().leave_host(instance)
    started = start_container(container=instance.container, requested_by="t")
    run_to_end(started, world.pool)
    assert world.assert_runs_once(instance).ip == instance.ip


def test_one_that_ran_before_its_pool_had_networks_goes_on_without(world: World) -> None:
    Pool.objects.update(network_device="")
    world.row.refresh_from_db()
    instance = world.add_instance(world.hosts[0])
    assert instance.vm_uuid is not None
    world.pool.end(instance.vm_uuid)
    Instance.objects.all().leave_host(instance)
    Pool.objects.update(network_device="eth1")
    run_to_end(start_container(container=instance.container, requested_by="t"), world.pool)
    assert world.again(instance).ip is None
    assert world.host_of(instance) is not None


def test_what_was_begun_on_a_network_goes_on_there_when_its_pool_carries_none_any_more(
    world: World,
) -> None:
    """Its VM may have the address already: nobody else may get it."""
    instance = world.add_instance()
    operation = provision(world, instance)
    run_until(world, operation, "await_running")
    world.pool.full.add(UUID(operation.facts["host"]))
    Pool.objects.filter(pk=world.row.pk).update(network_device="")
    run_to_end(operation, world.pool)
    assert operation.state == State.SUCCEEDED
    assert world.assert_runs_once(instance).ip == "10.64.0.2"


def run_until(world: World, operation: Operation, step: str) -> None:
    for _ in range(20):
        let_time_pass()
        active = Operation.objects.active().order_by("created_at")
        for uuid in active.values_list("uuid", flat=True):
            claimed = engine.claim(uuid)
            assert claimed is not None
            engine.run_step(claimed, to(world.pool), keep=False)
        operation.refresh_from_db()
        if operation.step == step:
            return
    raise AssertionError(f"it never came to {step}")


# ------------------------------------------------------------------------------------- when there is none


def test_without_a_free_address_it_waits_and_holds_nothing(world: World, settings: Any) -> None:
    settings.NETWORK_PREFIX = 29
    held = [arrived(world) for _ in range(5)]
    operation = stuck(world, provision(world))
    assert operation.detail == "All addresses of the tenant's network 10.64.0.0/29 are taken."
    assert operation.instance is not None
    waiting = world.again(operation.instance)
    assert (waiting.host, waiting.pool, waiting.ip) == (None, None, None)
    world.assert_ledger_is_right()
    run_to_end(delete_container(container=held[0].container, requested_by="t"), world.pool)
    run_to_end(operation, world.pool)
    assert world.assert_runs_once(waiting).ip == held[0].ip


def test_without_a_free_subnet_it_waits_and_says_so(world: World, settings: Any) -> None:
    settings.NETWORK_RANGE = IPv4Network("10.64.0.0/24")
    make_segment()
    operation = stuck(world, provision(world))
    assert operation.detail == "No subnet is left for the tenant's network."


def test_without_a_free_tag_it_waits_and_says_so(world: World) -> None:
    Pool.objects.update(vlan_first=1000, vlan_last=1000)
    make_segment(pool=world.row)
    operation = stuck(world, provision(world))
    assert operation.detail == "No VLAN is left in the pool for the tenant's network."


def test_a_network_that_is_being_removed_is_waited_for(world: World) -> None:
    segment = make_segment(world.tenant, world.row)
    removal = Operation.objects.create(kind="network.remove", segment=segment, requested_by="t")
    run_until(world, removal, "destroy")
    operation = provision(world)
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert operation.detail == "The tenant's network is being removed here, and made anew then."
    run_to_end(operation, world.pool)
    assert operation.state == State.SUCCEEDED
    assert Segment.objects.filter(network=segment.network).count() == 2


# ---------------------------------------------------------------------------------- when the pool changes


@pytest.mark.parametrize("kind", ["instance.provision", "instance.resize"])
def test_a_network_that_somebody_removed_is_made_again(world: World, kind: str) -> None:
    if kind == "instance.provision":
        arrived(world)
        instance = world.add_instance()
    else:
        instance = world.add_instance(world.hosts[0])
    operation = Operation.objects.create(kind=kind, instance=instance, requested_by="t")
    run_until(world, operation, "build_vm")
    world.pool.networks_by_uuid.clear()
    world.pool.vlans.clear()
    world.pool.vifs_by_uuid.clear()
    run_to_end(operation, world.pool)
    assert operation.state == State.SUCCEEDED
    world.assert_runs_once(instance)


def test_a_host_that_the_network_is_not_on_is_passed_over(world: World) -> None:
    """It has no such interface, so XAPI starts nothing there that needs it."""
    bare, *others = world.hosts
    world.pool.bare = {host.pk for host in others}
    instance = arrived(world)
    assert world.host_of(instance) == bare.pk


def test_what_the_pool_lost_of_a_double_is_the_orphan_sweeps(world: World) -> None:
    """A network whose making nobody heard of: the one that is found by name is taken, once."""
    segment = make_segment(world.tenant, world.row)
    marker = {labels.SEGMENT: str(segment.pk), labels.TENANT: str(world.tenant.pk)}
    made = world.pool.ensure_network(NetworkSpec(labels.network_name(segment.pk), marker))
    instance = arrived(world)
    assert instance.vm_uuid is not None
    (vif,) = world.pool.vifs(instance.vm_uuid)
    assert vif.network == made.uuid


@pytest.mark.django_db(transaction=True)
def test_two_workers_that_place_the_first_two_containers_make_one_network() -> None:
    world = World(device="eth1")
    operations = [provision(world) for _ in range(2)]
    start = Barrier(2)

    def work(number: int) -> None:
        try:
            start.wait(10)
            engine.advance(operations[number].uuid, to(world.pool))
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, range(2)))
    for operation in operations:
        run_to_end(operation, world.pool)
        assert operation.state == State.SUCCEEDED
    assert len(world.pool.networks()) == 1
    assert Operation.objects.filter(kind="network.build").count() == 1
    ips = set(Instance.objects.values_list("ip", flat=True))
    assert ips == {"10.64.0.2", "10.64.0.3"}
