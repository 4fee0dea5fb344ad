"""manage.py set_warm"""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from hosting.alarms.selectors import audit_of
from hosting.compute.models import SIZES
from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import make_pool
from hosting.warm.models import WarmPolicy

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool() -> Pool:
    return make_pool(name="east", boot_mode="pvh", boot_kernel="/boot/guest/vmlinuz")


def say(pool: str = "east", **options: Any) -> None:
    call_command("set_warm", pool, stdout=StringIO(), **{"memory": "128MiB", "count": 2, **options})


def policies() -> list[tuple[int, ...]]:
    return list(WarmPolicy.objects.values_list(*SIZES, "count"))


def test_a_size_and_how_many_are_written_down(pool: Pool) -> None:
    say()
    say(vcpus=2, memory="1GiB", disk="4GiB", count=1)
    assert policies() == [(1, 128 * 2**20, 2**30, 2), (2, 2**30, 4 * 2**30, 1)]
    assert [entry.action for entry in audit_of(f"pool:{pool.pk}")] == ["pool.set_warm"] * 2


def test_said_again_it_is_another_number_and_none_is_no_policy(pool: Pool) -> None:
    say()
    say(count=5)
    assert policies() == [(1, 128 * 2**20, 2**30, 5)]
    say(count=0)
    assert policies() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pool": "west"}, "there is no pool 'west'"),
        ({"memory": "128"}, "is no size"),
        ({"memory": "0MiB"}, "memory_bytes: from"),
        ({"vcpus": 0}, "vcpus: from 1"),
        ({"disk": "1TB"}, "is no size"),
        ({"disk": "1MiB"}, "disk_bytes: from"),
        ({"count": -1}, "from 0 to 100"),
        ({"count": 101}, "from 0 to 100"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(
    pool: Pool, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        say(**options)
    assert policies() == []


@pytest.mark.parametrize("mode", ["bios", "uefi"])
def test_a_pool_that_boots_from_disks_can_have_none(mode: str) -> None:
    pool = make_pool(name="east", boot_mode=mode)
    with pytest.raises(CommandError, match=f"east boots by {mode}, .* set_boot pvh or pv"):
        say()
    assert policies() == []
    size = {"vcpus": 1, "memory_bytes": 128 * 2**20, "disk_bytes": 2**30}
    WarmPolicy.objects.create(pool=pool, **size, count=1)
    say(count=0)
    assert policies() == []
