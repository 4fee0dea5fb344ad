"""Hosts: memory is never oversold, and states change only where they may."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given, settings, strategies

from hosting.fleet import selectors
from hosting.fleet.choices import COMES_FROM, HostState
from hosting.fleet.models import Host, StorageRepository
from hosting.fleet.tests.makers import GIB, make_host, make_pool, make_vm

pytestmark = pytest.mark.django_db


def reserved(host: Host) -> int:
    host.refresh_from_db()
    return host.memory_reserved_bytes


def this(host: Host) -> Any:
    return Host.objects.filter(pk=host.pk)


def test_reserving_takes_what_is_there_and_no_more() -> None:
    host = make_host(memory_capacity_bytes=2 * GIB)
    assert this(host).reserve(2 * GIB)
    assert not this(host).reserve(1)
    assert reserved(host) == 2 * GIB
    assert host.memory_unreserved_bytes == 0


def test_releasing_gives_it_back() -> None:
    host = make_host()
    this(host).reserve(GIB)
    this(host).release(GIB)
    assert reserved(host) == 0


def test_nobody_gives_back_more_than_is_reserved() -> None:
    host = make_host()
    this(host).reserve(GIB)
    with pytest.raises(IntegrityError), transaction.atomic():
        this(host).release(GIB + 1)
    assert reserved(host) == GIB


@pytest.mark.parametrize("amount", [0, -1])
def test_amounts_are_positive(amount: int) -> None:
    for act in (Host.objects.reserve, Host.objects.release):
        with pytest.raises(ValueError):
            act(amount)


def test_the_database_itself_refuses_overselling() -> None:
    host = make_host(memory_capacity_bytes=GIB)
    with pytest.raises(IntegrityError, match="host_memory_not_oversold"), transaction.atomic():
        this(host).update(memory_reserved_bytes=GIB + 1)


@pytest.mark.parametrize(
    "shut",
    [{"state": "cordoned"}, {"enabled": False}, {"live": False}, {"gone_at": "2026-01-01T00:00Z"}],
)
def test_nothing_is_reserved_on_a_host_that_does_not_accept(shut: dict[str, Any]) -> None:
    host = make_host(**shut)
    assert not this(host).reserve(1)
    assert not Host.objects.with_room_for(1).exists()


def test_the_emptiest_host_comes_first() -> None:
    pool = make_pool()
    small = make_host(pool, memory_capacity_bytes=GIB)
    large = make_host(pool, memory_capacity_bytes=8 * GIB, memory_reserved_bytes=6 * GIB)
    assert list(Host.objects.with_room_for(GIB)) == [large, small]
    assert list(Host.objects.with_room_for(2 * GIB)) == [large]


@pytest.mark.django_db(transaction=True)
def test_the_last_room_goes_to_one() -> None:
    host = make_host(memory_capacity_bytes=GIB)
    won, gate = list[bool](), threading.Barrier(6)

    def compete() -> None:
        gate.wait(timeout=10)
        won.append(this(host).reserve(GIB))
        connection.close()

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert won.count(True) == 1
    assert reserved(host) == GIB


@given(steps=strategies.lists(strategies.integers(-6, 6).filter(bool), max_size=12))
@settings(max_examples=40, deadline=None)
def test_whatever_is_asked_the_ledger_stays_between_nothing_and_all(steps: list[int]) -> None:
    host, held = make_host(memory_capacity_bytes=10), 0
    for amount in steps:
        if amount > 0:
            held += amount if this(host).reserve(amount) else 0
        elif held >= -amount:
            this(host).release(-amount)
            held += amount
    assert reserved(host) == held
    assert 0 <= held <= 10


# ---------------------------------------------------------------------------------------------- capacity


def measure(host: Host) -> int:
    Host.objects.all().measure_capacity()
    host.refresh_from_db()
    return host.memory_capacity_bytes


def test_capacity_is_what_the_hypervisor_and_others_leave() -> None:
    host = make_host(memory_total_bytes=100, memory_overhead_bytes=10)
    there = {"resident_on": host, "memory_bytes": 20, "memory_overhead_bytes": 1}
    make_vm(host.pool, is_control_domain=True, **there)
    make_vm(host.pool, **there)
    make_vm(host.pool, instance_uuid=host.pk, **there)
    make_vm(host.pool, memory_bytes=50)
    assert measure(host) == 100 - 10 - 21 - 21


def test_vanished_memory_stops_new_reservations_and_breaks_nothing() -> None:
    host = make_host(memory_total_bytes=100, memory_capacity_bytes=100)
    this(host).reserve(80)
    this(host).update(memory_total_bytes=50)
    assert measure(host) == 80
    assert not this(host).reserve(1)
    this(host).release(80)
    assert measure(host) == 50


def test_capacity_is_never_negative() -> None:
    assert measure(make_host(memory_total_bytes=5, memory_overhead_bytes=9)) == 0


def test_capacity_of_many_hosts_costs_one_query(django_assert_num_queries: Any) -> None:
    pool = make_pool()
    for _ in range(5):
        make_host(pool)
    with django_assert_num_queries(1):
        Host.objects.all().measure_capacity()


# ------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize("to", HostState)
@pytest.mark.parametrize("was", HostState)
def test_a_state_follows_only_where_it_may(was: HostState, to: HostState) -> None:
    host = make_host(state=was)
    before = host.state_changed_at
    moved = this(host).move_to(to)
    host.refresh_from_db()
    assert moved == (was in COMES_FROM[to])
    assert host.state == (to if moved else was)
    assert (host.state_changed_at != before) or not moved


@pytest.mark.parametrize("was", [one for one in HostState if one != HostState.FENCED])
def test_nothing_is_declared_dead_without_a_fence(was: HostState) -> None:
    assert not this(make_host(state=was)).move_to(HostState.DEAD)


@pytest.mark.parametrize("was", [one for one in HostState if one != HostState.SUSPECT])
def test_only_a_suspect_is_fenced(was: HostState) -> None:
    assert not this(make_host(state=was)).move_to(HostState.FENCED)


# ---------------------------------------------------------------------------------------------- selectors


def test_the_summary_counts_what_people_mean(django_assert_num_queries: Any) -> None:
    pool = make_pool()
    host = make_host(pool)
    make_host(pool, state=HostState.CORDONED, name="xen-2")
    make_host(pool, gone_at="2026-01-01T00:00Z", name="left")
    make_vm(pool, resident_on=host, instance_uuid=host.pk)
    make_vm(pool, power_state="Halted")
    make_vm(pool, is_control_domain=True, resident_on=host)
    make_vm(pool, is_a_template=True)
    make_vm(make_pool())
    with django_assert_num_queries(2):
        summary = selectors.summary_of(pool)
    assert (summary.hosts, summary.hosts_accepting, summary.hosts_live) == (2, 1, 2)
    assert (summary.vms, summary.vms_running, summary.vms_ours) == (2, 1, 1)
    assert summary.memory_capacity_bytes == 8 * GIB


def test_an_empty_pool_has_a_summary_too() -> None:
    assert selectors.summary_of(make_pool()).memory_total_bytes == 0


def test_hosts_are_listed_with_their_guests(django_assert_num_queries: Any) -> None:
    pool = make_pool()
    for name in ("xen-2", "xen-1"):
        host = make_host(pool, name=name)
        make_vm(pool, resident_on=host, name=f"on-{name}")
        make_vm(pool, resident_on=host, is_control_domain=True)
    with django_assert_num_queries(1):
        listed: list[Any] = list(selectors.hosts_of(pool))
        assert all(one.pool.name == pool.name for one in listed)
    assert [(one.name, one.vm_count) for one in listed] == [("xen-1", 1), ("xen-2", 1)]
    with django_assert_num_queries(1):
        guests = [(vm.name, str(vm.resident_on)) for vm in selectors.guests_of(pool)]
    assert guests == [("on-xen-1", "xen-1"), ("on-xen-2", "xen-2")]
    assert [vm.name for vm in selectors.guests_on(host)] == ["on-xen-1"]


def test_a_vm_may_name_a_host_that_was_never_seen() -> None:
    pool = make_pool()
    make_vm(pool, resident_on_id=pool.pk)
    assert [vm.resident_on for vm in selectors.guests_of(pool)] == [None]


def test_storage_is_listed_with_who_reaches_it(django_assert_num_queries: Any) -> None:
    host = make_host()
    for name in ("b", "a"):
        sr = StorageRepository.objects.create(pool=host.pool, name=name, type="nfs")
        sr.pbds.create(pool=host.pool, host=host, currently_attached=True)
    with django_assert_num_queries(2):
        listed = [
            (sr.name, [str(pbd.host) for pbd in sr.pbds.all()])
            for sr in selectors.storage_of(host.pool)
        ]
    assert listed == [("a", ["xen-1"]), ("b", ["xen-1"])]


def test_the_master_is_known_by_its_pool() -> None:
    host = make_host()
    before = host.is_master
    host.pool.master = host
    assert (before, host.is_master) == (False, True)
    assert selectors.pools().count() == 1
