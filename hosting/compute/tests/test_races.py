"""Several at once, on real connections."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest
from django.db import connection, transaction

from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container, Instance
from hosting.compute.services import create_container, resize_container
from hosting.compute.tests.makers import MIB, make_instance
from hosting.errors import HostingError
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host, make_pool
from tenants.models import Quota
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
MANY = 6


def at_once(act: Callable[[int], T]) -> list[T | str]:
    """`act` in many threads at the same time; what each made, or the code of what refused it."""
    start = Barrier(MANY)

    def run(number: int) -> T | str:
        start.wait(10)
        try:
            return act(number)
        except HostingError as error:
            return error.code
        finally:
            connection.close()

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(run, range(MANY)))


def test_a_quota_is_never_oversold() -> None:
    tenant = make_tenant(containers=4, memory_bytes=3 * 256 * MIB)
    image = make_image(tenant)

    def create(number: int) -> str:
        container, _ = create_container(
            tenant=tenant, name=f"app{number}", image=image, requested_by="t"
        )
        return container.desired_state

    answers = at_once(create)
    assert sorted(map(str, answers)) == ["quota_exceeded"] * 3 + ["running"] * 3
    assert Container.objects.count() == Instance.objects.count() == 3
    assert Quota.objects.get(tenant=tenant).memory_bytes_used == 3 * 256 * MIB


def test_one_key_makes_one_container_however_often_at_once() -> None:
    tenant = make_tenant()
    image = make_image(tenant)

    def create(_: int) -> str:
        container, _operation = create_container(
            tenant=tenant, name="web", image=image, requested_by="t", idempotency_key="k"
        )
        return str(container.pk)

    assert set(at_once(create)) == {str(Container.objects.get().pk)}
    assert Quota.objects.get(tenant=tenant).containers_used == 1


def test_one_name_is_given_once() -> None:
    tenant = make_tenant()
    image = make_image(tenant)

    def create(_: int) -> str:
        create_container(tenant=tenant, name="web", image=image, requested_by="t")
        return "made"

    assert sorted(map(str, at_once(create))) == ["made"] + ["name_taken"] * (MANY - 1)
    assert Quota.objects.get(tenant=tenant).containers_used == 1


def test_a_host_is_never_oversold() -> None:
    host = make_host(memory_capacity_bytes=3 * 100 * MIB + 1)
    tenant = make_tenant()
    instances = [make_instance(tenant) for _ in range(MANY)]

    @transaction.atomic
    def place(number: int) -> bool:
        return Instance.objects.all().take_host(instances[number], host.pk, 100 * MIB)

    assert sorted(map(str, at_once(place))) == ["False"] * 3 + ["True"] * 3
    host.refresh_from_db()
    assert host.memory_reserved_bytes == 300 * MIB
    assert Instance.objects.filter(host=host).count() == 3


def test_moves_back_and_forth_leave_the_sums_right() -> None:
    pool = make_pool()
    hosts = [make_host(pool), make_host(pool)]
    tenant = make_tenant()
    moving = [make_instance(tenant, host=hosts[n % 2]) for n in range(MANY)]

    def move(number: int) -> bool:
        instance, target = moving[number], hosts[(number + 1) % 2]
        with transaction.atomic():
            assert Instance.objects.all().take_target(instance, target.pk)
        with transaction.atomic():
            Instance.objects.all().settle_on(instance, target.pk)
        return True

    assert at_once(move) == [True] * MANY
    for host in Host.objects.all():
        held = sum(Instance.objects.filter(host=host).values_list("reserved_bytes", flat=True))
        assert host.memory_reserved_bytes == held > 0


def test_resizes_at_once_take_only_what_the_last_wish_needs() -> None:
    tenant = make_tenant()
    container = make_instance(tenant, host=make_host()).container

    def resize(number: int) -> str:
        return resize_container(
            container=container, memory_bytes=(512 + number) * MIB, requested_by="t"
        ).kind

    answers = at_once(resize)
    assert sorted(map(str, answers)) == ["instance.resize"] + ["operation_in_progress"] * (MANY - 1)
    container.refresh_from_db()
    assert Quota.objects.get(tenant=tenant).memory_bytes_used == container.memory_bytes
    assert container.generation == 2
