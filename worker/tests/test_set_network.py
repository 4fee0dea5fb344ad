"""manage.py set_network"""

from __future__ import annotations

from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from hosting.alarms.selectors import audit_of
from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import make_pool
from worker.hypervisor.port import PifRecord, Unreachable
from worker.management.commands import set_network

pytestmark = pytest.mark.django_db


class Interfaces:
    """A pool whose host has eth0 and eth1, and a VLAN on the second."""

    def pifs(self) -> tuple[PifRecord, ...]:
        plain = tuple(PifRecord(uuid4(), None, None, device) for device in ("eth0", "eth1"))
        return (*plain, PifRecord(uuid4(), None, None, "eth7", vlan=12))


class Silent:
    def pifs(self) -> tuple[PifRecord, ...]:
        raise Unreachable("timeout")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(set_network.Command, "connect", lambda _self, _pool: Interfaces())
    return make_pool(name="east")


def say(pool: str = "east", **options: Any) -> None:
    call_command("set_network", pool, stdout=StringIO(), **options)


def test_a_pool_carries_no_networks_until_that_is_said(pool: Pool) -> None:
    assert pool.network_device == ""


def test_an_interface_and_its_tags_are_written_down(pool: Pool) -> None:
    say(device="eth1", vlans="200-299")
    pool.refresh_from_db()
    assert (pool.network_device, pool.vlan_first, pool.vlan_last) == ("eth1", 200, 299)
    assert [entry.action for entry in audit_of(f"pool:{pool.pk}")] == ["pool.set_network"]


def test_what_is_not_said_stays(pool: Pool) -> None:
    say(device="eth1", vlans="200-299")
    say(none=True)
    pool.refresh_from_db()
    assert (pool.network_device, pool.vlan_first, pool.vlan_last) == ("", 200, 299)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pool": "west", "device": "eth1"}, "there is no pool 'west'"),
        ({"device": "eth7"}, "an interface 'eth7': there is eth0, eth1"),
        ({"device": "eth1", "vlans": "12"}, "is no range"),
        ({"device": "eth1", "vlans": "0-12"}, "from 1 to 4094"),
        ({"device": "eth1", "vlans": "12-4095"}, "from 1 to 4094"),
        ({"device": "eth1", "vlans": "30-20"}, "the lower first"),
        ({}, "required"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(
    pool: Pool, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        say(**options)
    pool.refresh_from_db()
    assert pool.network_device == ""


def test_a_pool_that_does_not_answer_is_left_as_it_is(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_network.Command, "connect", lambda _self, _pool: Silent())
    with pytest.raises(CommandError, match="does not answer"):
        say(device="eth1")
