"""A watcher that only applies what it is told holds exactly what the pool holds."""

import random
from datetime import timedelta
from uuid import UUID

import pytest

from deploy.lab.testing import RunningLab
from worker.hypervisor.port import (
    Changes,
    HostRecord,
    PoolRecord,
    Record,
    VdiRecord,
    VmRecord,
    Watcher,
)
from worker.tests.contract.conftest import SOON, Place, Workshop

QUICK = timedelta(seconds=0.2)


class Mirror:
    """What the follower does with it, in a dictionary."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.rows: dict[tuple[str, UUID], Record] = {}
        self.fulls = 0

    def follow(self, timeout: timedelta = QUICK) -> Changes:
        changes = self.watcher.changes(timeout)
        if changes.full:
            self.rows.clear()
            self.fulls += 1
        for record in changes.records:
            self.rows[(record.kind, record.uuid)] = record
        for removed in changes.removed:
            self.rows.pop((removed.kind, removed.uuid), None)
        return changes

    def settle(self) -> None:
        """Until nothing is said twice in a row."""
        quiet = 0
        while quiet < 3:
            changes = self.follow()
            quiet = 0 if changes.records or changes.removed or changes.full else quiet + 1

    def vms(self) -> dict[UUID, VmRecord]:
        return {r.uuid: r for r in self.rows.values() if isinstance(r, VmRecord)}

    def vdis(self) -> dict[UUID, VdiRecord]:
        return {r.uuid: r for r in self.rows.values() if isinstance(r, VdiRecord)}


@pytest.fixture
def mirror(place: Place) -> Mirror:
    mirror = Mirror(place.hypervisor.watcher())
    mirror.follow()
    return mirror


def test_the_first_answer_is_the_whole_pool(place: Place, mirror: Mirror) -> None:
    hosts = {r.uuid for r in mirror.rows.values() if isinstance(r, HostRecord)}
    assert hosts == {host.uuid for host in place.hypervisor.hosts()}
    (pool,) = (r for r in mirror.rows.values() if isinstance(r, PoolRecord))
    assert pool == place.hypervisor.pool()
    assert mirror.follow(timedelta(0)).master == place.master()


def test_a_vms_life_is_seen(place: Place, workshop: Workshop, mirror: Mirror) -> None:
    source, target = place.slaves(2)
    vm = workshop.booted(source)
    mirror.settle()
    assert mirror.vms()[vm.uuid].resident_on == source
    place.hypervisor.wait(place.hypervisor.pool_migrate(vm.uuid, target), SOON)
    mirror.settle()
    assert mirror.vms()[vm.uuid].resident_on == target
    place.hypervisor.destroy_vm(vm.uuid)
    mirror.settle()
    assert vm.uuid not in mirror.vms()


def test_what_is_watched_is_what_is_read(place: Place, workshop: Workshop, mirror: Mirror) -> None:
    vm = workshop.running(place.master())
    mirror.settle()
    read = place.hypervisor.vm(vm.uuid)
    assert mirror.vms()[vm.uuid] == read
    (vbd,) = place.hypervisor.vbds(vm.uuid)
    assert mirror.rows[("vbd", vbd.uuid)] == vbd
    assert vbd.vdi is not None
    assert mirror.vdis()[vbd.vdi] == place.hypervisor.vdi(vbd.vdi)
    host = place.hypervisor.host(place.master())
    seen = mirror.rows[("host", host.uuid)]
    assert isinstance(seen, HostRecord)
    assert (seen.name, seen.resident_vm_count) == (host.name, host.resident_vm_count)


def test_a_watcher_stays_in_step_under_churn(
    place: Place, workshop: Workshop, mirror: Mirror
) -> None:
    chance = random.Random(7)
    alive: list[VmRecord] = []
    for step in range(60):
        if alive and chance.random() < 0.45:
            place.hypervisor.destroy_vm(alive.pop(chance.randrange(len(alive))).uuid)
        else:
            alive.append(workshop.vm(f"vm-{step}"))
        if chance.random() < 0.3:
            mirror.follow(timedelta(0))
    mirror.settle()
    ours = {u: vm for u, vm in mirror.vms().items() if vm.marker == workshop.marker}
    assert ours == {vm.uuid: place.hypervisor.vm(vm.uuid) for vm in alive}


def test_more_deletions_than_the_pool_remembers_are_found_out(
    place: Place, workshop: Workshop, mirror: Mirror, lab: RunningLab
) -> None:
    doomed = [workshop.vm(f"vm-{n}") for n in range(600)]
    kept = workshop.vm("kept")
    mirror.settle()
    for vm in doomed:
        place.hypervisor.destroy_vm(vm.uuid)
    mirror.settle()
    ours = {uuid for uuid, vm in mirror.vms().items() if vm.marker == workshop.marker}
    assert ours == {kept.uuid}
    assert mirror.fulls == 1  # the class was read again, not everything


def test_deletions_that_are_never_told_are_found_out(
    place: Place, workshop: Workshop, mirror: Mirror, lab: RunningLab
) -> None:
    doomed = workshop.vm("doomed")
    mirror.settle()
    place.hypervisor.destroy_vm(doomed.uuid)
    lab.do(lambda inside: inside.faults.overflow_events())
    mirror.settle()
    assert doomed.uuid not in mirror.vms()


def test_a_lost_session_costs_a_watcher_nothing_but_a_full_answer(
    workshop: Workshop, mirror: Mirror, lab: RunningLab
) -> None:
    lab.do(lambda inside: inside.sessions.forget_all())
    vm = workshop.vm()
    mirror.settle()
    assert vm.uuid in mirror.vms()
    assert mirror.fulls == 2


def test_a_change_wakes_a_waiting_watcher(place: Place, workshop: Workshop, mirror: Mirror) -> None:
    mirror.settle()
    vm = workshop.vm()
    changes = mirror.follow(timedelta(seconds=30))
    assert vm.uuid in {record.uuid for record in changes.records}


def test_tasks_are_seen_to_begin_and_end(place: Place, workshop: Workshop, mirror: Mirror) -> None:
    vm = workshop.vm_with_disk()
    mirror.settle()
    task = place.hypervisor.start_on(vm.uuid, place.master())
    seen = set()
    for _ in range(50):
        for record in mirror.follow().records:
            if record.kind == "task" and getattr(record, "handle", None) == task:
                seen.add(record.status)  # type: ignore[union-attr]
        if "success" in seen:
            break
    assert "success" in seen
    place.hypervisor.forget(task)
