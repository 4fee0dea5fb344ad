"""Hosts that are emptied, and hosts that die, with real fences and a detector for what runs twice."""

from __future__ import annotations

import time

import pytest

from deploy.lab.lab import Lab
from hosting.alarms.models import Alarm
from hosting.compute.models import Instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.services import (
    confirm_host_is_off,
    cordon_host,
    declare_host_repaired,
    drain_host,
    return_host,
)
from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker.tests.whole.estate import PATIENCE, Estate

pytestmark = pytest.mark.django_db


def fill(estate: Estate, count: int) -> list[Instance]:
    image = estate.imported()
    return [estate.running(image, f"app-{number}") for number in range(count)]


def host_with_most(estate: Estate) -> Host:
    held = [instance.host for instance in Instance.objects.select_related("host")]
    return max({host for host in held if host is not None}, key=held.count)


def ask(kind: str, host: Host) -> Operation:
    return Operation.objects.create(kind=kind, host=host, requested_by="t")


def test_a_drained_host_loses_its_vms_alive(estate: Estate) -> None:
    there = fill(estate, 4)
    started = {vm.uuid: vm.started_at for vm in estate.hypervisor.vms() if vm.marker}
    host = host_with_most(estate)
    estate.mirror()
    assert estate.settle(ask("host.evacuate", host)).state == State.SUCCEEDED
    for instance in there:
        now = estate.assert_runs_once(instance)
        assert now.host_id != host.pk
        assert now.vm_uuid == instance.vm_uuid
    assert started == {vm.uuid: vm.started_at for vm in estate.hypervisor.vms() if vm.marker}
    host.refresh_from_db()
    assert (host.state, host.memory_reserved_bytes) == (HostState.MAINTENANCE, 0)
    assert not estate.hypervisor.host(host.pk).enabled


def test_a_drained_host_takes_vms_again_when_it_is_returned(estate: Estate) -> None:
    instance = fill(estate, 1)[0]
    host = host_with_most(estate)
    estate.mirror()
    assert estate.settle(drain_host(host, actor="t")).state == State.SUCCEEDED
    assert estate.settle(return_host(host, actor="t")).state == State.SUCCEEDED
    estate.mirror()
    host.refresh_from_db()
    assert (host.state, host.enabled) == (HostState.ACCEPTING, True)
    others = Host.objects.exclude(pk=host.pk)
    for other in others:
        cordon_host(other, actor="t")
    here = estate.assert_runs_once(instance).host
    assert here is not None
    assert estate.settle(drain_host(here, actor="t")).state == State.SUCCEEDED
    assert estate.assert_runs_once(instance).host_id == host.pk
    assert estate.settle(return_host(here, actor="t")).state == State.SUCCEEDED


@pytest.mark.parametrize("is_master", [False, True])
def test_what_ran_on_a_host_without_power_runs_elsewhere(fragile: Estate, is_master: bool) -> None:
    there = fill(fragile, 6)
    host = _of_role(fragile, is_master=is_master)
    lost = [one for one in there if one.host_id == host.pk]
    assert lost
    fragile.mirror()
    fragile.hypervisor.sync_database()
    fragile.cut_power(host)
    assert fragile.settle(ask("host.recover", host)).state == State.SUCCEEDED
    for instance in there:
        assert fragile.assert_runs_once(instance).host_id != host.pk
    host.refresh_from_db()
    assert (host.state, host.memory_reserved_bytes) == (HostState.DEAD, 0)


def _of_role(estate: Estate, *, is_master: bool) -> Host:
    """The master, or a member that has some."""
    estate.pool.refresh_from_db()
    held = Host.objects.exclude(instances=None).order_by("name").distinct()
    found = [host for host in held if (host.pk == estate.pool.master_id) is is_master]
    return found[0]


def test_a_master_that_dies_with_what_only_it_knew_loses_no_disk(fragile: Estate) -> None:
    """Its members have a copy of its database from before anything was made."""
    fragile.hypervisor.sync_database()
    there = fill(fragile, 6)
    host = _of_role(fragile, is_master=True)
    before = fragile.disk_uuids()
    fragile.mirror()
    fragile.cut_power(host)
    assert fragile.settle(ask("host.recover", host)).state == State.SUCCEEDED
    fragile.assert_nothing_ran_twice()
    for instance in there:
        now = Instance.objects.get(pk=instance.pk)
        if instance.host_id == host.pk:
            fragile.assert_runs_once(now)
        else:  # it runs on where it was, unseen: a person is told, and nothing started
            assert now.host_id == instance.host_id
            assert fragile.host_of(now) is None
    fragile.reconcile()
    lost = {f"vm-lost:{one.pk}" for one in there if one.host_id != host.pk}
    assert set(Alarm.objects.filter(closed_at=None).values_list("tag", flat=True)) == lost
    assert before <= fragile.disk_uuids(marked=False)


def test_one_that_only_seems_dead_is_fenced_before_anything_starts(fragile: Estate) -> None:
    """Its toolstack hangs and its guests go on writing."""
    there = fill(fragile, 4)
    host = _of_role(fragile, is_master=False)
    fragile.mirror()
    fragile.lab.do(lambda lab: _hang(lab, host.name))
    assert fragile.settle(ask("host.recover", host)).state == State.SUCCEEDED
    assert not fragile.lab.do(lambda lab: lab.machine(host.name).powered)
    for instance in there:
        fragile.assert_runs_once(instance)


def _hang(lab: Lab, name: str) -> None:
    lab.machine(name).crash_toolstack()


def test_without_a_fence_nothing_starts_elsewhere(fragile: Estate) -> None:
    there = fill(fragile, 4)
    host = _of_role(fragile, is_master=False)
    on_it = [one for one in there if one.host_id == host.pk]
    fragile.mirror()
    fragile.lab.do(lambda lab: _hang(lab, host.name))
    fragile.lab.do(lambda lab: setattr(lab.machine(host.name), "bmc_fault", "ignores"))
    recovery = ask("host.recover", host)
    for _ in range(2):
        fragile.step()
    recovery.refresh_from_db()
    assert (recovery.state, recovery.step) == (State.ACTIVE, "fence")
    for instance in on_it:
        instance.refresh_from_db()
        assert instance.host_id == host.pk
    fragile.assert_nothing_ran_twice()


def test_a_host_that_no_fence_reaches_is_vouched_for_and_comes_back_repaired(
    fragile: Estate,
) -> None:
    there = fill(fragile, 4)
    host = _of_role(fragile, is_master=False)
    fragile.mirror()
    fragile.cut_power(host)
    _set_bmc_fault(fragile, host, "unreachable")
    recovery = ask("host.recover", host)
    for _ in range(2):
        fragile.step()
    recovery.refresh_from_db()
    assert (recovery.state, recovery.step) == (State.ACTIVE, "fence")
    confirm_host_is_off(host, host.name, actor="user:olga")
    assert fragile.settle(recovery).state == State.SUCCEEDED
    for instance in there:
        assert fragile.assert_runs_once(instance).host_id != host.pk
    _set_bmc_fault(fragile, host, None)
    fragile.lab.do(lambda lab: lab.machine(host.name).power_on())
    _await_life_of(fragile, host)
    declare_host_repaired(host, actor="user:olga")
    assert fragile.settle(return_host(host, actor="user:olga")).state == State.SUCCEEDED
    assert fragile.hypervisor.host(host.pk).enabled
    host.refresh_from_db()
    assert host.state == HostState.ACCEPTING


def _set_bmc_fault(estate: Estate, host: Host, fault: str | None) -> None:
    estate.lab.do(lambda lab: setattr(lab.machine(host.name), "bmc_fault", fault))


def _await_life_of(estate: Estate, host: Host) -> None:
    """Until its pool hears of it."""
    end = time.monotonic() + PATIENCE
    while not estate.hypervisor.host(host.pk).live:
        assert time.monotonic() < end
    estate.mirror()
