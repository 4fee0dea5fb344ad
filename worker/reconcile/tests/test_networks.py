"""Tenants' networks are completed, removed when nothing is on them, and told of when they are full."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from hosting.alarms.models import Alarm
from hosting.compute.models import Instance
from hosting.fleet.models import Host, Pool
from hosting.networks.models import Segment
from hosting.networks.tests.makers import make_network, make_segment
from hosting.operations import bell
from hosting.operations.models import Operation
from worker.reconcile.networks.diff import IDLE, Act, View, diff
from worker.reconcile.networks.run import reconcile_networks
from worker.tests.worlds import World

ONE, TWO, SEGMENT = (UUID(int=number) for number in (1, 2, 3))
NEW = timedelta(0)


@pytest.mark.parametrize(
    ("view", "act"),
    [
        (View(SEGMENT, frozenset({ONE, TWO}), True, False, None), None),
        (View(SEGMENT, frozenset({ONE}), True, False, None), Act.BUILD),
        (View(SEGMENT, frozenset(), False, False, None), None),
        (View(SEGMENT, frozenset({ONE, TWO}), True, False, NEW), None),
        (View(SEGMENT, frozenset({ONE, TWO}), True, False, IDLE), Act.REMOVE),
        (View(SEGMENT, frozenset({ONE}), True, False, IDLE), Act.REMOVE),
        (View(SEGMENT, frozenset(), False, False, IDLE), Act.REMOVE),
        (View(SEGMENT, frozenset({ONE}), True, True, None), Act.REMOVE),
    ],
)
def test_a_network_gets_what_its_hosts_and_its_use_ask_for(view: View, act: Act | None) -> None:
    wanted = [] if act is None else [(SEGMENT, act)]
    assert list(diff([view], [ONE, TWO])) == wanted


@pytest.fixture(autouse=True)
def _rung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


@pytest.fixture
def world(db: None) -> World:
    return World(device="eth1")


def kinds() -> list[str]:
    return list(Operation.objects.order_by("created_at").values_list("kind", flat=True))


def test_a_network_that_is_whole_and_used_is_left_alone(world: World) -> None:
    world.add_instance(world.hosts[0])
    assert reconcile_networks(timezone.now() + 2 * IDLE) == 0


def test_a_host_that_joined_gets_the_networks_that_are_there(world: World) -> None:
    world.add_instance(world.hosts[0])
    host = world.add_host("xen-9")
    assert (reconcile_networks(), reconcile_networks()) == (1, 0)
    assert kinds() == ["network.build"]
    assert host.pk not in Segment.objects.get().hosts


def test_a_host_that_does_not_answer_is_not_waited_for(world: World) -> None:
    world.add_instance(world.hosts[0])
    Host.objects.filter(pk=world.add_host("xen-9").pk).update(live=False)
    assert reconcile_networks() == 0


def test_a_network_goes_an_hour_after_the_last_container(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    Instance.objects.all().leave_host(instance)
    Instance.objects.filter(pk=instance.pk).end()
    now = timezone.now()
    assert reconcile_networks(now + IDLE / 2) == 0
    assert reconcile_networks(now + 2 * IDLE) == 1
    assert kinds() == ["network.remove"]


def test_one_that_stopped_still_has_its_network(world: World) -> None:
    instance = world.add_instance(world.hosts[0])
    Instance.objects.all().leave_host(instance)
    assert reconcile_networks(timezone.now() + 2 * IDLE) == 0


def test_a_removal_that_was_begun_is_gone_on_with(world: World) -> None:
    segment = make_segment(world.tenant, world.row)
    Segment.objects.filter(pk=segment.pk).update(retired_at=Now())
    reconcile_networks()
    assert kinds() == ["network.remove"]


def standing() -> set[str]:
    return {alarm.tag.split(".")[0] for alarm in Alarm.objects.filter(closed_at=None)}


def test_of_what_is_used_up_a_person_is_told_until_some_is_free(
    world: World, settings: Any
) -> None:
    settings.NETWORK_RANGE = IPv4Network("10.64.0.0/29")
    settings.NETWORK_PREFIX = 29
    instances = [world.add_instance(world.hosts[0]) for _ in range(5)]
    Pool.objects.update(vlan_last=1000)
    reconcile_networks()
    assert standing() == {"network-full:range", "network-full:pool", "network-full:network"}
    Instance.objects.all().leave_host(instances[0])
    Instance.objects.filter(pk=instances[0].pk).end()
    settings.NETWORK_RANGE = IPv4Network("10.64.0.0/28")
    Pool.objects.update(vlan_last=1001)
    reconcile_networks()
    assert not standing()


def test_looking_costs_the_same_however_many_networks_there_are(
    world: World, django_assert_num_queries: Any
) -> None:
    for number in range(4):
        make_segment(make_network().tenant, world.row, tag=1001 + number)
    with django_assert_num_queries(8):
        reconcile_networks()
