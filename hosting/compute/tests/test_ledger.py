"""What the database itself refuses, and what the host's memory is reserved for."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from hosting.compute.models import AlreadyPlacedError, Container, Instance
from hosting.compute.tests.makers import MIB, OVERHEAD, make_container, make_instance
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import GIB, make_host, make_pool
from hosting.networks.tests.makers import make_network

pytestmark = pytest.mark.django_db

NEED = 256 * MIB + OVERHEAD


def reserved(*hosts: Host) -> list[int]:
    return [Host.objects.get(pk=host.pk).memory_reserved_bytes for host in hosts]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Not A Label"},
        {"vcpus": 0},
        {"memory_bytes": 0},
        {"disk_bytes": 0},
        {"desired_state": "asleep"},
        {"restart_policy": "sometimes"},
    ],
)
def test_a_container_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_container(**wrong)


def test_a_name_is_taken_until_its_container_is_gone() -> None:
    first = make_container(name="web")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_container(first.tenant, name="web")
    Container.objects.filter(pk=first.pk).delete_at_last()
    make_container(first.tenant, name="web")


def test_only_what_was_wished_away_is_deleted() -> None:
    container = make_container()
    with pytest.raises(IntegrityError), transaction.atomic():
        Container.objects.filter(pk=container.pk).update(deleted_at=Now())


def test_a_container_has_one_living_instance() -> None:
    instance = make_instance()
    again: dict[str, Any] = {
        "container": instance.container,
        "generation": 2,
        "vcpus": 1,
        "memory_bytes": 1,
        "disk_bytes": 1,
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        Instance.objects.create(**again)
    Instance.objects.filter(pk=instance.pk).end()
    Instance.objects.create(**again)


def test_a_mac_is_given_once_on_a_network() -> None:
    network = make_network()
    nic: dict[str, Any] = {"network": network, "mac": "02:00:00:00:00:01"}
    make_instance(network.tenant, ip="10.64.0.2", **nic)
    with pytest.raises(IntegrityError, match="one_instance_per_mac"), transaction.atomic():
        make_instance(network.tenant, ip="10.64.0.3", **nic)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vcpus": 0},
        {"host": None},
        {"reserved_bytes": 0},
        {"pool": None},
        {"ended_at": Now()},
    ],
)
def test_an_instance_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    instance = make_instance(host=make_host())
    with pytest.raises(IntegrityError), transaction.atomic():
        Instance.objects.filter(pk=instance.pk).update(**wrong)


def test_an_instance_does_not_move_to_where_it_is_nor_from_nowhere() -> None:
    host = make_host()
    instance = make_instance(host=host)
    with pytest.raises(IntegrityError), transaction.atomic():
        Instance.objects.filter(pk=instance.pk).update(target=host)
    placeless = make_instance()
    with pytest.raises(IntegrityError), transaction.atomic():
        Instance.objects.filter(pk=placeless.pk).update(target=host)


def test_a_place_is_memory_on_a_host_and_a_pool() -> None:
    host = make_host()
    instance = make_instance(host=host)
    assert (instance.host, instance.pool, reserved(host)) == (host, host.pool, [NEED])


def test_a_full_host_is_not_a_place() -> None:
    host = make_host(memory_capacity_bytes=MIB)
    instance = make_instance()
    assert not Instance.objects.all().take_host(instance, host.pk, NEED)
    instance.refresh_from_db()
    assert (instance.host, reserved(host)) == (None, [0])


def test_two_places_are_a_bug() -> None:
    pool = make_pool()
    instance = make_instance(host=make_host(pool))
    with pytest.raises(AlreadyPlacedError), transaction.atomic():
        Instance.objects.all().take_host(instance, make_host(pool).pk, NEED)


def test_a_move_holds_both_hosts_until_it_is_settled() -> None:
    pool = make_pool()
    here, there = make_host(pool), make_host(pool)
    instance = make_instance(host=here)
    assert Instance.objects.all().take_target(instance, there.pk)
    assert reserved(here, there) == [NEED, NEED]
    assert set(Instance.objects.all().on(there)) == {instance}
    Instance.objects.all().settle_on(instance, there.pk)
    assert reserved(here, there) == [0, NEED]
    Instance.objects.all().settle_on(instance, there.pk)
    assert reserved(here, there) == [0, NEED]


def test_a_move_that_did_not_happen_gives_the_target_back() -> None:
    pool = make_pool()
    here, there = make_host(pool), make_host(pool)
    instance = make_instance(host=here)
    assert Instance.objects.all().take_target(instance, there.pk)
    Instance.objects.all().settle_on(instance, here.pk)
    assert reserved(here, there) == [NEED, 0]


def test_a_full_host_is_no_target() -> None:
    pool = make_pool()
    instance = make_instance(host=make_host(pool))
    full = make_host(pool, memory_capacity_bytes=MIB)
    assert not Instance.objects.all().take_target(instance, full.pk)


def test_what_runs_nowhere_and_what_moves_already_have_no_target() -> None:
    pool = make_pool()
    moving = make_instance(host=make_host(pool))
    assert Instance.objects.all().take_target(moving, make_host(pool).pk)
    with pytest.raises(AlreadyPlacedError), transaction.atomic():
        Instance.objects.all().take_target(moving, make_host(pool).pk)


def test_a_move_settles_on_one_of_its_two() -> None:
    instance = make_instance(host=make_host())
    with pytest.raises(AlreadyPlacedError):
        Instance.objects.all().settle_on(instance, uuid4())


def test_leaving_gives_both_back_and_twice_is_once() -> None:
    pool = make_pool()
    here, there = make_host(pool), make_host(pool, memory_capacity_bytes=GIB)
    instance = make_instance(host=here)
    assert Instance.objects.all().take_target(instance, there.pk)
    for _ in range(2):
        Instance.objects.all().leave_host(instance)
    assert reserved(here, there) == [0, 0]
