"""Subnets, tags and addresses are given once, whoever asks at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from threading import Barrier
from typing import Any, TypeVar

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from hosting.compute.models import Instance
from hosting.compute.tests.makers import make_instance
from hosting.fleet.tests.makers import make_pool
from hosting.networks.models import Network, Segment
from hosting.networks.tests.makers import make_network, make_segment
from tenants.tests.makers import make_tenant

T = TypeVar("T")
MANY = 6


@pytest.fixture
def small(settings: Any) -> None:
    """Room for four tenants, of five instances each."""
    settings.NETWORK_RANGE = IPv4Network("10.64.0.0/27")
    settings.NETWORK_PREFIX = 29


def take_address(instance: Instance, network: Network) -> bool:
    with transaction.atomic():
        return Instance.objects.all().take_address(instance, network)


def take_segment(network: Network, pool: Any) -> Segment | None:
    with transaction.atomic():
        return Segment.objects.all().take(network, pool)


@pytest.mark.django_db
class TestOneAfterTheOther:
    def test_a_tenant_has_one_network(self) -> None:
        tenant = make_tenant()
        assert make_network(tenant) == make_network(tenant)
        assert Network.objects.count() == 1

    def test_when_all_subnets_are_taken_there_is_none(self, small: None) -> None:
        for _ in range(4):
            make_network()
        with transaction.atomic():
            assert Network.objects.take(make_tenant().pk) is None

    @pytest.mark.parametrize("other", ["10.64.0.0/24", "10.64.0.128/25", "10.0.0.0/8"])
    def test_the_database_refuses_subnets_that_overlap(self, other: str) -> None:
        Network.objects.create(tenant=make_tenant(), subnet=IPv4Network("10.64.0.0/24"))
        with pytest.raises(IntegrityError, match="networks_do_not_overlap"), transaction.atomic():
            Network.objects.create(tenant=make_tenant(), subnet=IPv4Network(other))

    def test_an_address_is_free_again_when_its_instance_ends(self, small: None) -> None:
        network = make_network()
        instances = [make_instance(network.tenant) for _ in range(6)]
        taken = [take_address(instance, network) for instance in instances]
        assert taken == [True] * 5 + [False]
        first, *_, last = instances
        first.refresh_from_db()
        assert (first.ip, first.network) == ("10.64.0.2", network)
        Instance.objects.filter(pk=first.pk).end()
        assert take_address(last, network)
        last.refresh_from_db()
        assert last.ip == "10.64.0.2"

    def test_an_instance_keeps_the_address_that_it_has(self) -> None:
        network = make_network()
        instance = make_instance(network.tenant)
        assert take_address(instance, network)
        assert take_address(instance, network)
        instance.refresh_from_db()
        assert instance.ip == "10.64.0.2"

    @pytest.mark.parametrize(
        "wrong", [{"mac": ""}, {"ip": None}, {"network": None}, {"ip": None, "mac": ""}]
    )
    def test_an_interface_that_is_half_there_is_refused(self, wrong: dict[str, Any]) -> None:
        network = make_network()
        instance = make_instance(network.tenant)
        assert take_address(instance, network)
        with pytest.raises(IntegrityError, match="has_an_address"), transaction.atomic():
            Instance.objects.filter(pk=instance.pk).update(**wrong)

    def test_two_networks_may_have_the_same_last_number(self) -> None:
        for _ in range(2):
            network = make_network()
            assert take_address(make_instance(network.tenant), network)
        ips = Instance.objects.order_by("ip").values_list("ip", flat=True)
        assert list(ips) == ["10.64.0.2", "10.64.1.2"]

    def test_a_network_has_one_tag_in_each_pool(self) -> None:
        network, pool = make_network(), make_pool(network_device="eth1")
        other = make_pool(network_device="eth2", vlan_first=7, vlan_last=7)
        first = take_segment(network, pool)
        assert first is not None
        assert first == take_segment(network, pool)
        assert (first.device, first.tag) == ("eth1", 1000)
        second = take_segment(network, other)
        assert second is not None
        assert (second.device, second.tag) == ("eth2", 7)

    def test_when_all_tags_are_taken_there_is_none_until_one_ends(self) -> None:
        pool = make_pool(network_device="eth1", vlan_first=5, vlan_last=6)
        held = [take_segment(make_network(), pool) for _ in range(2)]
        waiting = make_network()
        assert take_segment(waiting, pool) is None
        assert held[0] is not None
        with transaction.atomic():
            assert Segment.objects.all().retire(held[0])
        assert take_segment(waiting, pool) is None
        Segment.objects.all().end(held[0])
        got = take_segment(waiting, pool)
        assert got is not None
        assert got.tag == 5

    def test_one_that_something_is_on_is_not_retired(self) -> None:
        segment = make_segment()
        instance = make_instance(segment.network.tenant, pool=segment.pool)
        assert take_address(instance, segment.network)
        with transaction.atomic():
            assert not Segment.objects.all().retire(segment)
        Instance.objects.filter(pk=instance.pk).end()
        with transaction.atomic():
            assert Segment.objects.all().retire(segment)

    def test_what_is_not_retired_does_not_end(self) -> None:
        segment = make_segment()
        Segment.objects.all().end(segment)
        segment.refresh_from_db()
        assert segment.ended_at is None

    @pytest.mark.parametrize(
        "wrong", [{"tag": 0}, {"tag": 4095}, {"device": ""}, {"ended_at": Now()}]
    )
    def test_a_segment_that_cannot_be_is_refused(self, wrong: dict[str, Any]) -> None:
        segment = make_segment()
        with pytest.raises(IntegrityError), transaction.atomic():
            Segment.objects.filter(pk=segment.pk).update(**wrong)

    def test_a_tag_is_one_networks_in_its_pool(self) -> None:
        segment = make_segment()
        with pytest.raises(IntegrityError, match="per_tag"), transaction.atomic():
            make_segment(pool=segment.pool, tag=segment.tag)


# --------------------------------------------------------------------------------------- several at once


def at_once(act: Callable[[int], T]) -> list[T]:
    """`act` in many threads, each on a connection of its own, at the same time."""
    start = Barrier(MANY)

    def run(number: int) -> T:
        start.wait(10)
        try:
            with transaction.atomic():
                return act(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(run, range(MANY)))


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_each_of_several_tenants_gets_a_subnet_of_its_own(self, small: None) -> None:
        tenants = [make_tenant().pk for _ in range(MANY)]
        got = at_once(lambda number: Network.objects.take(tenants[number]))
        assert sorted(network is None for network in got) == [False] * 4 + [True] * 2
        assert len(set(Network.objects.values_list("subnet", flat=True))) == 4

    def test_one_tenant_gets_one_network_however_often_it_is_asked_for(self) -> None:
        tenant = make_tenant().pk
        got = at_once(lambda _: Network.objects.take(tenant))
        assert len(set(got)) == 1
        assert Network.objects.count() == 1

    def test_each_of_several_networks_gets_a_tag_of_its_own(self) -> None:
        pool = make_pool(network_device="eth1", vlan_first=1, vlan_last=4)
        networks = [make_network() for _ in range(MANY)]
        got = at_once(lambda number: Segment.objects.all().take(networks[number], pool))
        tags = sorted(segment.tag for segment in got if segment is not None)
        assert tags == [1, 2, 3, 4]

    def test_one_network_gets_one_tag_however_often_it_is_asked_for(self) -> None:
        network, pool = make_network(), make_pool(network_device="eth1")
        got = at_once(lambda _: Segment.objects.all().take(network, pool))
        assert len(set(got)) == 1
        assert Segment.objects.count() == 1

    def test_each_of_several_instances_gets_an_address_of_its_own(self, small: None) -> None:
        network = make_network()
        instances = [make_instance(network.tenant) for _ in range(MANY)]
        got = at_once(lambda n: Instance.objects.all().take_address(instances[n], network))
        assert sorted(got) == [False] + [True] * 5
        ips = Instance.objects.exclude(ip=None).values_list("ip", flat=True)
        assert len(set(ips)) == 5

    def test_a_network_is_not_retired_under_an_instance_that_comes_to_it(self) -> None:
        """Either it is retired, and whoever comes sees that; or somebody is on it, and it is not."""
        for _ in range(5):
            tenant, pool = make_tenant(), make_pool(network_device="eth1")
            network = make_network(tenant)
            segment = take_segment(network, pool)
            assert segment is not None
            instance = make_instance(tenant, pool=pool)

            def act(
                number: int,
                network: Network = network,
                segment: Segment = segment,
                instance: Instance = instance,
            ) -> str:
                if number % 2:
                    return "retired" if Segment.objects.all().retire(segment) else "left"
                assert Instance.objects.all().take_address(instance, network)
                found = Segment.objects.all().take(network, segment.pool)
                assert found is not None
                return "joined" if found.retired_at is None else "told"

            said = set(at_once(act))
            assert not {"retired", "joined"} <= said, said
