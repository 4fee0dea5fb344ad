"""Several at once, on real connections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, transaction

from hosting.compute.models import Instance
from hosting.compute.tests.makers import MIB, OVERHEAD, make_instance
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from hosting.warm.tests.makers import make_blank, take
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 6


def test_no_two_starts_ever_get_the_same_blank() -> None:
    host = make_host()
    blanks = [make_blank(host) for _ in range(MANY // 2)]
    tenants = [make_tenant(slug=f"tenant{number}") for number in range(MANY)]
    instances = [make_instance(tenant) for tenant in tenants]
    start = Barrier(MANY)

    def take_one(number: int) -> Blank | None:
        start.wait(10)
        try:
            with transaction.atomic():
                return take(instances[number], host)
        finally:
            connection.close()

    with ThreadPoolExecutor(MANY) as pool:
        got = list(pool.map(take_one, range(MANY)))
    taken = [blank for blank in got if blank is not None]
    assert {blank.pk for blank in taken} == {blank.pk for blank in blanks}
    assert len(taken) == len(blanks)
    for number, blank in enumerate(got):
        holder = None if blank is None else Blank.objects.get(pk=blank.pk).instance
        assert holder in (None, instances[number])
    held = sum(Instance.objects.values_list("reserved_bytes", flat=True))
    assert held == Host.objects.get().memory_reserved_bytes == 3 * (256 * MIB + OVERHEAD)


def test_one_that_is_taken_and_discarded_at_once_is_either_and_never_both() -> None:
    host = make_host()
    blank, instance = make_blank(host), make_instance()
    start = Barrier(2)

    def act(number: int) -> bool:
        start.wait(10)
        try:
            with transaction.atomic():
                if number:
                    return Blank.objects.all().retire(blank)
                return take(instance, host) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        taken, retired = pool.map(act, range(2))
    assert taken != retired
    state = Blank.objects.get().state
    assert state == (BlankState.TAKEN if taken else BlankState.RETIRED)
