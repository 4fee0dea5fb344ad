"""What a watcher says is what the rows hold: no more, no less, whatever it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from hosting import labels
from hosting.fleet.choices import HostState
from hosting.fleet.models import (
    Host,
    Network,
    Pbd,
    Pool,
    StorageRepository,
    Vbd,
    Vdi,
    Vif,
    VirtualMachine,
)
from hosting.fleet.tests.makers import GIB, make_host, make_pool, make_vm
from hosting.operations.models import Operation
from worker import mirror
from worker.hypervisor.port import (
    Changes,
    CurrentOperation,
    GuestMetrics,
    HostRecord,
    MessageRecord,
    NetworkRecord,
    PbdRecord,
    PifRecord,
    PoolRecord,
    Record,
    Removed,
    SrRecord,
    TaskHandle,
    TaskRecord,
    VbdRecord,
    VdiRecord,
    VifRecord,
    VmRecord,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool() -> Pool:
    return make_pool()


def host_record(**given: Any) -> HostRecord:
    fields: dict[str, Any] = {
        "uuid": uuid4(),
        "name": "xen-1",
        "address": "192.0.2.1",
        "enabled": True,
        "live": True,
        "memory_total_bytes": 8 * GIB,
        "memory_free_bytes": 6 * GIB,
        "cpu_count": 4,
        "software_version": {"product_brand": "XCP-ng", "product_version": "8.3.0"},
    }
    return HostRecord(**{**fields, **given})


def vm_record(**given: Any) -> VmRecord:
    fields: dict[str, Any] = {"uuid": uuid4(), "name": "vm", "power_state": "Running"}
    return VmRecord(**{**fields, **given})


def one_of_each() -> list[Record]:
    host, instance = host_record(), uuid4()
    sr = SrRecord(uuid4(), "shared", "nfs", "user", True, 100, 40, 60)
    network = NetworkRecord(uuid4(), "lan", "xenbr0", marker={labels.TENANT: "t"})
    vdi = VdiRecord(uuid4(), "disk", sr.uuid, 10, 5, locked_by=(host.uuid,))
    vm = vm_record(
        resident_on=host.uuid,
        memory_bytes=GIB,
        marker={labels.INSTANCE: str(instance)},
        current_operations=(CurrentOperation("pool_migrate", TaskHandle("t")),),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        guest=GuestMetrics(networks={"0/ipv4/0": "198.51.100.7"}),
        vm_data={"ready": "1"},
    )
    return [
        PoolRecord(uuid4(), "pool", host.uuid, default_sr=sr.uuid, ha_enabled=True),
        host,
        sr,
        PbdRecord(uuid4(), host.uuid, sr.uuid, True),
        network,
        vdi,
        vm,
        VbdRecord(uuid4(), vm.uuid, vdi.uuid, 0, currently_attached=True),
        VifRecord(uuid4(), vm.uuid, network.uuid, 0, "00:16:3e:00:00:01", ipv4_allowed=("::",)),
    ]


def told(
    *records: Record,
    full: bool = False,
    removed: tuple[Removed, ...] = (),
    master: UUID | None = None,
) -> Changes:
    return Changes(full, records, removed, master)


MIRRORED = [Host, StorageRepository, Pbd, Network, Vdi, VirtualMachine, Vbd, Vif]


def counts() -> list[int]:
    return [model._default_manager.count() for model in MIRRORED]


def test_everything_that_is_said_is_written(pool: Pool) -> None:
    records = one_of_each()
    host, sr, vm = records[1], records[2], records[6]
    touched = mirror.apply(pool.pk, told(*records, full=True, master=host.uuid))
    assert counts() == [1] * 8
    pool.refresh_from_db()
    assert (pool.master_id, pool.default_sr_uuid, pool.ha_enabled) == (host.uuid, sr.uuid, True)
    assert pool.version == "XCP-ng 8.3.0"
    row = VirtualMachine.objects.select_related("resident_on").get()
    assert (row.uuid, row.resident_on, row.memory_bytes) == (vm.uuid, Host.objects.get(), GIB)
    assert row.current_operations == ["pool_migrate"]
    assert row.guest_networks == {"0/ipv4/0": "198.51.100.7"}
    assert row.vm_data == {"ready": "1"}
    assert row.instance_uuid is not None
    assert row.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert StorageRepository.objects.get().physical_utilisation_bytes == 40
    assert Vdi.objects.get().locked_by == [str(host.uuid)]
    assert Vif.objects.get().ipv4_allowed == ["::"]
    assert touched.kinds == {"pool", "host", "sr", "pbd", "network", "vdi", "vm", "vbd", "vif"}


def test_applying_twice_changes_nothing(pool: Pool) -> None:
    records = told(*one_of_each(), full=True)
    mirror.apply(pool.pk, records)
    before = [list(model._default_manager.order_by("pk").values()) for model in MIRRORED]
    mirror.apply(pool.pk, records)
    assert before == [list(model._default_manager.order_by("pk").values()) for model in MIRRORED]


def test_a_later_record_replaces_an_earlier_one(pool: Pool) -> None:
    vm = vm_record(power_state="Halted", vm_data={"a": "1"})
    newer = replace(vm, power_state="Running", vm_data={})
    mirror.apply(pool.pk, told(vm))
    mirror.apply(pool.pk, told(newer))
    row = VirtualMachine.objects.get()
    assert (row.power_state, row.vm_data) == ("Running", {})


def test_of_two_records_in_one_batch_the_last_counts(pool: Pool) -> None:
    vm = vm_record(power_state="Halted")
    mirror.apply(pool.pk, told(vm, replace(vm, power_state="Running")))
    assert VirtualMachine.objects.get().power_state == "Running"


def test_what_is_removed_leaves(pool: Pool) -> None:
    records = one_of_each()
    mirror.apply(pool.pk, told(*records))
    gone = tuple(Removed(record.kind, record.uuid) for record in records[2:])
    touched = mirror.apply(pool.pk, told(removed=gone))
    assert counts() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert touched.kinds == {"sr", "pbd", "network", "vdi", "vm", "vbd", "vif"}


def test_what_is_removed_and_said_again_in_one_batch_stays(pool: Pool) -> None:
    vm = vm_record()
    mirror.apply(pool.pk, told(vm, removed=(Removed("vm", vm.uuid),)))
    assert VirtualMachine.objects.exists()


def test_a_full_batch_is_all_there_is(pool: Pool) -> None:
    mirror.apply(pool.pk, told(*one_of_each()))
    stays = vm_record()
    mirror.apply(pool.pk, told(stays, full=True))
    assert [vm.uuid for vm in VirtualMachine.objects.all()] == [stays.uuid]
    assert counts() == [1, 0, 0, 0, 0, 1, 0, 0]


def test_other_pools_are_left_alone(pool: Pool) -> None:
    other = make_pool()
    theirs, host = make_vm(other), make_host(other)
    mirror.apply(
        pool.pk, told(full=True, removed=(Removed("vm", theirs.pk), Removed("host", host.pk)))
    )
    mirror.apply(pool.pk, told(removed=(Removed("vm", theirs.pk), Removed("host", host.pk))))
    assert VirtualMachine.objects.exists()
    assert Host.objects.present().exists()


def test_a_vm_that_moved_between_pools_is_kept_by_the_new_one(pool: Pool) -> None:
    old, vm = make_pool(), vm_record()
    mirror.apply(old.pk, told(vm))
    mirror.apply(pool.pk, told(vm))
    mirror.apply(old.pk, told(removed=(Removed("vm", vm.uuid),)))
    assert VirtualMachine.objects.get().pool == pool


# ------------------------------------------------------------------------------------------------- hosts


def test_a_host_that_left_keeps_its_row_and_its_operations(pool: Pool) -> None:
    record = host_record()
    mirror.apply(pool.pk, told(record))
    Operation.objects.create(kind="host.recover", host_id=record.uuid)
    Host.objects.update(state=HostState.DRAINING)
    mirror.apply(pool.pk, told(removed=(Removed("host", record.uuid),)))
    host = Host.objects.get()
    assert host.gone_at is not None
    assert (host.live, host.enabled, host.state) == (False, False, HostState.DRAINING)
    left = host.gone_at
    mirror.apply(pool.pk, told(full=True))
    host.refresh_from_db()
    assert host.gone_at == left
    mirror.apply(pool.pk, told(record))
    back = Host.objects.get()
    assert (back.gone_at, back.live, back.state) == (None, True, HostState.DRAINING)


def test_the_ledger_is_not_touched_by_the_mirror(pool: Pool) -> None:
    record = host_record()
    mirror.apply(pool.pk, told(record))
    assert Host.objects.filter(pk=record.uuid).reserve(GIB)
    Host.objects.update(state=HostState.CORDONED, bmc_url="https://bmc")
    mirror.apply(pool.pk, told(replace(record, memory_total_bytes=4 * GIB), full=True))
    host = Host.objects.get()
    assert (host.state, host.memory_reserved_bytes) == (HostState.CORDONED, GIB)
    assert (host.bmc_url, host.memory_total_bytes) == ("https://bmc", 4 * GIB)


def test_a_mirror_can_be_dropped_and_rebuilt(pool: Pool) -> None:
    records = one_of_each()
    mirror.apply(pool.pk, told(*records, full=True))
    before = [list(model._default_manager.order_by("pk").values()) for model in MIRRORED]
    for model in MIRRORED[1:]:
        model._default_manager.all().delete()
    Host.objects.update(name="", address="", live=False, memory_total_bytes=0)
    mirror.apply(pool.pk, told(*records, full=True))
    assert before == [list(model._default_manager.order_by("pk").values()) for model in MIRRORED]


def test_capacity_follows_hosts_and_foreign_vms(pool: Pool) -> None:
    record = host_record()
    dom0 = vm_record(resident_on=record.uuid, is_control_domain=True, memory_bytes=GIB)
    mirror.apply(pool.pk, told(record, dom0))
    assert Host.objects.get().memory_capacity_bytes == 7 * GIB
    mirror.apply(pool.pk, told(replace(dom0, memory_bytes=2 * GIB)))
    assert Host.objects.get().memory_capacity_bytes == 6 * GIB
    mirror.apply(pool.pk, told(removed=(Removed("vm", dom0.uuid),)))
    assert Host.objects.get().memory_capacity_bytes == 8 * GIB


# ---------------------------------------------------------------------------------------------- the price


@pytest.mark.parametrize("full", [True, False])
def test_a_batch_costs_the_same_however_large_it_is(
    pool: Pool, django_assert_max_num_queries: Any, full: bool
) -> None:
    many: list[Record] = [record for _ in range(60) for record in one_of_each()]
    with django_assert_max_num_queries(22) as few:
        mirror.apply(pool.pk, told(*one_of_each(), full=full))
    with django_assert_max_num_queries(len(few)):
        mirror.apply(pool.pk, told(*many, full=full))
    assert VirtualMachine.objects.count() == (60 if full else 61)


def test_a_batch_without_news_costs_no_query(pool: Pool, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert mirror.apply(pool.pk, told()).kinds == set()


def test_one_changed_vm_does_not_read_the_others(
    pool: Pool, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(5):
        mirror.apply(pool.pk, told(vm_record()))


# -------------------------------------------------------------------------------------------- odd objects


def test_what_a_guest_wrote_cannot_blind_us_to_the_pool(pool: Pool) -> None:
    evil = vm_record(
        name="a\x00b\ud800",
        vm_data={"k\x00": "v\x00", "x": "\udfff"},
        guest=GuestMetrics(networks={"0/ip": "\x00"}),
        marker={labels.INSTANCE: "not a uuid"},
    )
    mirror.apply(pool.pk, told(evil))
    row = VirtualMachine.objects.get()
    assert row.name == "a\ufffdb\ufffd"
    assert row.vm_data == {"k\ufffd": "v\ufffd", "x": "\ufffd"}
    assert row.instance_uuid is None


def test_words_longer_than_we_expect_are_cut(pool: Pool) -> None:
    host = host_record(software_version={"product_brand": "x" * 500}, cpu_count=-1)
    sr = SrRecord(uuid4(), "n" * 500, "t" * 500, "", False, -1, -1, -1)
    mirror.apply(pool.pk, told(host, sr, master=host.uuid))
    row = StorageRepository.objects.get()
    assert (len(row.name), len(row.type), row.physical_size_bytes) == (500, 63, -1)
    assert len(Pool.objects.get().version) == 120
    assert Host.objects.get().cpu_count == 0


def test_kinds_that_nobody_reads_are_passed_over(pool: Pool) -> None:
    pif = PifRecord(uuid4(), None, None, "eth0")
    message = MessageRecord(uuid4(), "X", 3, "vm", None, None)
    touched = mirror.apply(pool.pk, told(pif, message, removed=(Removed("pif", uuid4()),)))
    assert touched.kinds == set()


# -------------------------------------------------------------------------------------------- who is woken


def test_a_changed_vm_concerns_its_instance_and_its_hosts(pool: Pool) -> None:
    here, there, instance = uuid4(), uuid4(), uuid4()
    vm = vm_record(
        resident_on=here,
        scheduled_to_be_resident_on=there,
        guest=GuestMetrics(pv_drivers_detected=True),
        marker={labels.INSTANCE: str(instance)},
    )
    subjects = mirror.apply(pool.pk, told(vm)).subjects
    assert subjects == {"instance": {instance}, "host": {here, there}}


STARTING = (CurrentOperation("start_on", TaskHandle("t")),)
STOPPING = (CurrentOperation("clean_shutdown", TaskHandle("t")),)
UP = GuestMetrics(pv_drivers_detected=True)
HALTED = {"power_state": "Halted"}


@pytest.mark.parametrize(
    ("was", "now", "wakes", "shows"),
    [
        ({}, {}, False, False),
        ({}, {"memory_bytes": 7}, False, False),
        (HALTED, {**HALTED, "current_operations": STARTING}, False, False),
        ({**HALTED, "current_operations": STARTING}, HALTED, True, True),
        ({"current_operations": STARTING}, {}, False, False),
        ({"current_operations": STOPPING}, {}, True, True),
        (None, HALTED, False, True),
        (None, {}, False, True),
        (None, {"guest": UP}, True, True),
        (HALTED, {}, False, True),
        (HALTED, {"guest": UP}, True, True),
        ({"guest": UP}, HALTED, True, True),
        ({}, HALTED, True, True),
        ({}, {"resident_on": UUID(int=5)}, True, True),
        ({}, {"guest": UP}, True, True),
        ({}, {"vm_data": {"exit": "code 0"}}, True, True),
    ],
)
def test_whoever_waits_for_an_instance_is_woken_by_what_that_may_be_and_pages_by_all_they_show(
    pool: Pool, was: dict[str, Any] | None, now: dict[str, Any], wakes: bool, shows: bool
) -> None:
    uuid, instance = uuid4(), uuid4()
    marker = {labels.INSTANCE: str(instance)}
    if was is not None:
        mirror.apply(pool.pk, told(vm_record(uuid=uuid, marker=marker, **was)))
    touched = mirror.apply(pool.pk, told(vm_record(uuid=uuid, marker=marker, **now)))
    assert touched.subjects["instance"] == ({instance} if wakes else set())
    assert touched.shown == ({instance} if shows else set())


def test_a_vm_that_left_concerns_its_instance(pool: Pool) -> None:
    instance = uuid4()
    vm = vm_record(marker={labels.INSTANCE: str(instance)})
    mirror.apply(pool.pk, told(vm, vm_record()))
    gone = mirror.apply(pool.pk, told(removed=(Removed("vm", vm.uuid),)))
    assert gone.subjects["instance"] == gone.shown == {instance}
    mirror.apply(pool.pk, told(vm))
    assert mirror.apply(pool.pk, told(full=True)).subjects["instance"] == {instance}


def test_a_changed_pool_or_host_concerns_itself(pool: Pool) -> None:
    host = host_record()
    record = PoolRecord(pool.pk, "x", host.uuid)
    subjects = mirror.apply(pool.pk, told(record, host)).subjects
    assert subjects == {"pool": {pool.pk}, "host": {host.uuid}}


@pytest.mark.parametrize(
    ("status", "marker", "wakes"),
    [
        ("success", "00000000-0000-0000-0000-00000000002a", True),
        ("failure", "00000000-0000-0000-0000-00000000002a", True),
        ("cancelled", "00000000-0000-0000-0000-00000000002a", True),
        ("pending", "00000000-0000-0000-0000-00000000002a", False),
        ("success", "garbage", False),
        ("success", "", False),
    ],
)
def test_a_task_that_ended_concerns_the_operation_that_began_it(
    pool: Pool, status: Any, marker: str, wakes: bool
) -> None:
    task = TaskRecord(
        uuid4(), TaskHandle("t"), "Async.VM.start", status, marker={labels.OPERATION: marker}
    )
    touched = mirror.apply(pool.pk, told(task))
    assert touched.operations == ({UUID(int=42)} if wakes else set())
    assert touched.kinds == set()
