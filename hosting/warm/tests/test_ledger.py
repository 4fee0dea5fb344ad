"""Whose a blank is, and who holds its memory."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from hosting.compute.models import Instance
from hosting.compute.tests.makers import MIB, OVERHEAD, make_instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from hosting.warm.selectors import warmth_of, yielding_bytes
from hosting.warm.services import set_warm
from hosting.warm.tests.makers import SIZES, make_blank, take

pytestmark = pytest.mark.django_db
HELD = 256 * MIB + OVERHEAD


@pytest.fixture
def host(db: None) -> Host:
    return make_host()


def again(host: Host) -> Host:
    return Host.objects.get(pk=host.pk)


def test_its_place_is_the_instances_that_takes_it(host: Host) -> None:
    blank, instance = make_blank(host), make_instance()
    taken = take(instance, host)
    instance.refresh_from_db()
    assert taken == blank
    assert (instance.host, instance.pool_id) == (host, host.pool_id)
    assert instance.reserved_bytes == again(host).memory_reserved_bytes == HELD
    now = Blank.objects.get()
    assert (now.state, now.instance, now.reserved_bytes) == (BlankState.TAKEN, instance, 0)


def test_it_is_taken_once(host: Host) -> None:
    make_blank(host)
    assert take(make_instance(), host) is not None
    assert take(make_instance(), host) is None


@pytest.mark.parametrize("state", [HostState.CORDONED, HostState.DRAINING, HostState.SUSPECT])
def test_on_a_host_that_takes_nothing_new_it_is_not_taken(host: Host, state: HostState) -> None:
    make_blank(host)
    Host.objects.update(state=state)
    assert take(make_instance(), host) is None


def test_of_several_the_oldest_goes_first(host: Host) -> None:
    blanks = [make_blank(host) for _ in range(2)]
    Blank.objects.filter(pk=blanks[1].pk).update(ready_at="2026-01-01T00:00Z")
    assert take(make_instance(), host) == blanks[1]


def test_put_back_it_is_as_it_was(host: Host) -> None:
    blank, instance = make_blank(host), make_instance()
    take(instance, host)
    Blank.objects.all().put_back(instance)
    now = Blank.objects.get(pk=blank.pk)
    assert (now.state, now.instance, now.reserved_bytes) == (BlankState.READY, None, HELD)
    assert Instance.objects.get(pk=instance.pk).reserved_bytes == 0
    assert again(host).memory_reserved_bytes == HELD


def test_given_up_it_holds_its_place_until_it_is_destroyed(host: Host) -> None:
    blank, instance = make_blank(host), make_instance()
    take(instance, host)
    Blank.objects.all().give_up(instance)
    assert take(make_instance(), host) is None
    assert again(host).memory_reserved_bytes == HELD
    Blank.objects.all().end(blank)
    assert again(host).memory_reserved_bytes == 0
    assert Blank.objects.get().state == BlankState.ENDED


def test_what_has_ended_gives_back_nothing_more(host: Host) -> None:
    blank = make_blank(host)
    for _ in range(2):
        Blank.objects.all().end(blank)
    assert again(host).memory_reserved_bytes == 0


def test_what_would_make_room_is_told(host: Host) -> None:
    make_blank(host)
    make_blank(host)
    take(make_instance(), host)
    assert yielding_bytes(host.pool) == {host.pk: HELD}


def test_pages_are_told_by_two_queries(host: Host, django_assert_num_queries: Any) -> None:
    make_blank(host)
    host.pool.refresh_from_db()
    set_warm(host.pool, SIZES, count=2, actor="t")
    Blank.objects.create(pool=host.pool, host=host, **asdict(SIZES))
    with django_assert_num_queries(2):
        warmth = warmth_of(host.pool)
    assert (warmth.wanted, warmth.on(host.pk), warmth.on(uuid4())) == (2, (1, 1), (0, 0))


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ({"state": "lost"}, "blank_"),
        ({"vcpus": 0}, "blank_has_sizes"),
        ({"reserved_bytes": 0}, "blank_holds_memory"),
        ({"state": "taken", "reserved_bytes": 0}, "blank_is_an_instances_once_taken"),
        ({"vm_uuid": None}, "blank_is_a_vm_once_ready"),
        ({"disk_uuid": None}, "blank_is_a_vm_once_ready"),
        ({"state": "ended", "reserved_bytes": 0}, "blank_ended_when_it_ended"),
        ({"state": "ended", "ended_at": Now()}, "blank_holds_memory"),
    ],
)
def test_the_database_refuses_rows_that_make_no_sense(
    host: Host, fault: dict[str, Any], rule: str
) -> None:
    blank = make_blank(host)
    with pytest.raises(IntegrityError, match=rule), transaction.atomic():
        Blank.objects.filter(pk=blank.pk).update(**fault)


def test_an_instance_has_no_more_than_one(host: Host) -> None:
    instance = make_instance()
    blanks = [make_blank(host) for _ in range(2)]
    take(instance, host)
    twice = {"state": BlankState.TAKEN, "reserved_bytes": 0, "instance": instance}
    with pytest.raises(IntegrityError, match="one_taken_blank"), transaction.atomic():
        Blank.objects.filter(pk__in=[blank.pk for blank in blanks]).update(**twice)
