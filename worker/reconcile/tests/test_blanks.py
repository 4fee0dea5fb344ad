"""How many blanks each host has, and which go."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from hosting import labels
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pool, Vdi
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.operations import bell
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.warm.models import Blank, WarmPolicy
from hosting.warm.tests.makers import SIZES, SR, make_blank
from worker.reconcile.blanks.diff import AT_ONCE, BlankView, Discard, HostView, Prepare, diff
from worker.reconcile.blanks.run import SETTLED, reconcile_blanks
from worker.reconcile.orphans.run import GRACE, reconcile_orphans
from worker.reconcile.quotas.run import reconcile_quotas

MIB = 2**20
SMALL, LARGE = (1, 128 * MIB, 1024 * MIB), (1, 256 * MIB, 1024 * MIB)
NEEDS = {SMALL: 140 * MIB, LARGE: 270 * MIB}
HOST = HostView(UUID(int=1), 4096 * MIB, is_open=True)
READY = BlankView(UUID(int=10), HOST.uuid, SMALL, timedelta(minutes=1))


def opened(*blanks: BlankView, wanted: dict[Any, int], **host: Any) -> list[Any]:
    return list(diff([replace(HOST, **host)], blanks, wanted, NEEDS))


def some(count: int, **changes: Any) -> list[BlankView]:
    return [
        replace(READY, uuid=uuid4(), age=timedelta(minutes=number), **changes)
        for number in range(count)
    ]


def test_what_is_missing_is_made_a_few_at_a_time() -> None:
    prepare = Prepare(HOST.uuid, SMALL)
    assert opened(wanted={SMALL: 1}) == [prepare]
    assert opened(wanted={SMALL: 5}) == [prepare] * AT_ONCE
    assert opened(*some(1, is_ready=False, doing=True), wanted={SMALL: 5}) == [prepare]
    assert opened(*some(2, is_ready=False, doing=True), wanted={SMALL: 5}) == []


def test_what_is_there_is_left_alone() -> None:
    assert opened(*some(2), wanted={SMALL: 2}) == []
    assert opened(wanted={}) == []


@pytest.mark.parametrize(
    "host", [{"is_open": False}, {"is_spared": True}, {"free_bytes": 139 * MIB}]
)
def test_nothing_is_made_where_that_would_be_in_the_way(host: dict[str, Any]) -> None:
    assert opened(wanted={SMALL: 2}, **host) == []


def test_no_more_are_made_than_there_is_room_for() -> None:
    assert opened(wanted={SMALL: 1, LARGE: 1}, free_bytes=300 * MIB) == [Prepare(HOST.uuid, SMALL)]


def test_of_too_many_the_oldest_go() -> None:
    young, middle, old = some(3)
    assert opened(old, young, middle, wanted={SMALL: 2}) == [Discard(old.uuid)]
    assert len(opened(*some(5), wanted={})) == AT_ONCE


@pytest.mark.parametrize(
    "fault",
    [
        {"is_current": False},
        {"is_there": False},
        {"age": timedelta(days=2)},
        {"is_retired": True, "is_ready": False},
        {"is_ready": False},
        {"size": LARGE},
    ],
)
def test_one_that_is_not_as_it_should_be_goes_and_another_is_made(fault: dict[str, Any]) -> None:
    bad = replace(READY, **fault)
    assert opened(bad, wanted={SMALL: 1}) == [Discard(bad.uuid), Prepare(HOST.uuid, SMALL)]


def test_what_something_is_being_done_with_is_waited_for() -> None:
    going = replace(READY, is_current=False, doing=True)
    assert opened(going, wanted={SMALL: 1}) == [Prepare(HOST.uuid, SMALL)]


def test_of_a_host_that_is_emptied_all_go() -> None:
    blanks = some(2)
    found = opened(*blanks, wanted={SMALL: 2}, is_open=False, is_leaving=True)
    assert {discard.blank for discard in found} == {blank.uuid for blank in blanks}


# ----------------------------------------------------------------------------------------- over real rows


@pytest.fixture(autouse=True)
def _rung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


@pytest.fixture
def host(db: None) -> Host:
    """Of a pool that wants one of 256 MiB on each host."""
    host = make_host()
    direct = {"boot_mode": "pvh", "boot_kernel": "/boot/guest/vmlinuz", "default_sr_uuid": SR}
    Pool.objects.update(last_seen_at=Now(), **direct)
    WarmPolicy.objects.create(pool=host.pool, **asdict(SIZES), count=1)
    return Host.objects.get()


def kinds() -> list[str]:
    return list(Operation.objects.order_by("created_at").values_list("kind", flat=True))


def ready_on(host: Host) -> Blank:
    """… and the mirror says so."""
    blank = make_blank(host)
    assert blank.vm_uuid is not None
    make_vm(host.pool, uuid=blank.vm_uuid, power_state="Paused", blank_uuid=blank.pk)
    Pool.objects.update(last_seen_at=timezone.now() + 2 * SETTLED)
    return blank


pytestmark = pytest.mark.django_db


def test_one_is_asked_for_and_only_once(host: Host) -> None:
    assert (reconcile_blanks(), reconcile_blanks()) == (1, 0)
    assert kinds() == ["blank.prepare"]
    assert Blank.objects.get().host == host


def test_one_that_is_ready_is_enough(host: Host) -> None:
    ready_on(host)
    assert reconcile_blanks() == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda: WarmPolicy.objects.all().delete(),
        lambda: Pool.objects.update(boot_args="other"),
        lambda: Pool.objects.update(default_sr_uuid=uuid4()),
        lambda: Pool.objects.update(default_sr_uuid=None),
        lambda: Pool.objects.update(network_device="eth1", vlan_first=7, vlan_last=9),
        lambda: Pool.objects.update(boot_mode="bios", boot_kernel=""),
        lambda: Host.objects.update(state=HostState.DRAINING),
        lambda: Host.objects.update(state=HostState.MAINTENANCE),
        lambda: Blank.objects.update(ready_at="2026-01-01T00:00Z"),
        lambda: Host.objects.get().virtual_machines.model.objects.update(power_state="Halted"),
        lambda: Host.objects.get().virtual_machines.model.objects.all().delete(),
    ],
)
def test_one_that_is_wanted_no_more_or_gone_is_discarded(host: Host, change: Any) -> None:
    ready_on(host)
    change()
    reconcile_blanks()
    assert kinds()[0] == "blank.discard"


@pytest.mark.parametrize("state", [HostState.CORDONED, HostState.SUSPECT, HostState.DEAD])
def test_on_a_host_that_only_rests_or_is_in_doubt_all_stays(host: Host, state: HostState) -> None:
    ready_on(host)
    Host.objects.update(state=state)
    assert reconcile_blanks() == 0


def test_of_a_pool_that_does_not_answer_nothing_is_known(host: Host) -> None:
    Pool.objects.update(state="unreachable")
    assert reconcile_blanks() == 0


def test_where_one_made_room_just_now_none_is_made(host: Host) -> None:
    Blank.objects.all().end(ready_on(host))
    assert reconcile_blanks() == 0
    assert reconcile_blanks(timezone.now() + timedelta(minutes=2)) == 1


def test_looking_costs_the_same_however_many(host: Host, django_assert_num_queries: Any) -> None:
    for _ in range(3):
        ready_on(make_host(host.pool))
    ready_on(host)
    with django_assert_num_queries(4):
        reconcile_blanks()


def test_the_ledger_adds_up_with_blanks_in_it(host: Host) -> None:
    blank = ready_on(host)
    assert reconcile_quotas() == []
    Blank.objects.filter(pk=blank.pk).update(reserved_bytes=1)
    assert [wrong.column for wrong in reconcile_quotas()] == ["memory_bytes"]


@pytest.mark.parametrize(("ended", "swept"), [(False, 0), (True, 1)])
def test_what_is_left_of_a_blank_that_ended_is_swept(host: Host, ended: bool, swept: int) -> None:
    blank = ready_on(host)
    assert blank.disk_uuid is not None
    Vdi.objects.create(
        pool=host.pool, uuid=blank.disk_uuid, name="scratch", marker={labels.BLANK: str(blank.pk)}
    )
    if ended:
        Blank.objects.all().end(blank)
    now = timezone.now()
    assert reconcile_orphans(now) == 0
    assert reconcile_orphans(now + GRACE) == swept
    if swept:
        sweep = Operation.objects.get(kind="pool.sweep", state=State.ACTIVE)
        assert sweep.facts["vms"] == [str(blank.vm_uuid)]
        assert sweep.facts["vdis"] == [str(blank.disk_uuid)]


def test_a_host_has_as_much_room_with_its_blanks_mirrored_as_without(host: Host) -> None:
    ready_on(host)
    blank = make_vm(host.pool, resident_on=host, memory_bytes=256 * MIB, blank_uuid=uuid4())
    Host.objects.all().measure_capacity()
    room = Host.objects.get().memory_capacity_bytes
    blank.delete()
    Host.objects.all().measure_capacity()
    assert Host.objects.get().memory_capacity_bytes == room
