"""Containers that start in VMs which have booted before: whose they are, and what becomes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from hosting import labels
from hosting.compute.models import Container, Instance
from hosting.compute.services import delete_container, resize_container
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pool
from hosting.networks.models import Network
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from tenants.tests.makers import make_tenant
from worker import engine, machines
from worker.fencing.fake import FakeFence
from worker.hypervisor.port import Busy, Gone, HypervisorError, NoRoom, Refused, Unreachable
from worker.tests.support import Faulty, let_time_pass, once_named, run_to_end, to
from worker.tests.worlds import FENCES, MIB, World
from worker.workflows import prepare_blank

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None) -> World:
    world = World()
    world.boot_directly()
    return world


def networked() -> World:
    """One whose instances have an interface each."""
    world = World(device="eth1")
    world.boot_directly()
    return world


def provision(world: World, instance: Instance, hypervisor: Any = None) -> Operation:
    operation = Operation.objects.create(
        kind="instance.provision", instance=world.again(instance), requested_by="t"
    )
    return run_to_end(operation, hypervisor or world.pool)


def ask(kind: str, **about: Any) -> Operation:
    return Operation.objects.create(kind=kind, requested_by="t", **about)


def state_of(blank: Blank) -> str:
    return Blank.objects.get(pk=blank.pk).state


# ------------------------------------------------------------------------------------------ it starts warm


def test_a_blank_becomes_an_ordinary_vm_of_the_instance(world: World) -> None:
    blank = world.add_blank(world.hosts[1])
    before = Host.objects.get(pk=world.hosts[1].pk).memory_reserved_bytes
    operation = provision(world, instance := world.add_instance())
    now = world.assert_runs_once(instance)
    assert operation.state == State.SUCCEEDED
    assert (now.vm_uuid, now.host) == (blank.vm_uuid, world.hosts[1])
    (vm,) = world.pool.vms()
    assert vm.name == labels.instance_name(instance.pk)
    assert vm.marker == {
        labels.INSTANCE: str(instance.pk),
        labels.TENANT: str(world.tenant.pk),
    }
    assert world.pool.args[vm.uuid] == "quiet"
    assert not world.pool.starts
    assert now.reserved_bytes == before
    assert Host.objects.get(pk=world.hosts[1].pk).memory_reserved_bytes == before


def test_its_disk_and_its_interface_are_the_instances() -> None:
    world = networked()
    blank = world.add_blank(world.hosts[0])
    provision(world, instance := world.add_instance())
    now = world.assert_runs_once(instance)
    assert now.vm_uuid == blank.vm_uuid
    assert now.mac == blank.mac != ""
    assert now.disk_uuids["scratch"] == str(blank.disk_uuid)
    assert blank.disk_uuid is not None
    disk = world.pool.vdis_by_uuid[blank.disk_uuid]
    assert disk.name == labels.disk_name(instance.pk, "scratch")
    assert disk.marker[labels.INSTANCE] == str(instance.pk)


def test_one_whose_disk_is_on_another_sr_is_not_taken(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    elsewhere = uuid4()
    Blank.objects.update(sr_uuid=elsewhere)
    Pool.objects.update(default_sr_uuid=elsewhere)
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).vm_uuid != blank.vm_uuid


def test_few_calls_make_it_the_instances(world: World) -> None:
    world.add_blank(world.hosts[0])
    faulty = Faulty(world.pool)
    provision(world, world.add_instance(), faulty)
    assert faulty.calls == ["ensure_vdis", "adopt_vdi", "adopt_vm", "unpause", *["ensure_vbd"] * 2]


@pytest.mark.parametrize(
    "given", [{"vcpus": 2}, {"memory_bytes": 512 * MIB}, {"disk_bytes": 2048 * MIB}]
)
def test_one_of_another_size_is_not_taken(world: World, given: dict[str, int]) -> None:
    blank = world.add_blank(world.hosts[0], **given)
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).vm_uuid != blank.vm_uuid
    assert state_of(blank) == BlankState.READY


def test_one_that_booted_otherwise_than_its_pool_would_now_is_not_taken(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    Pool.objects.update(boot_args="loglevel=7")
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).vm_uuid != blank.vm_uuid


def test_one_on_a_host_that_takes_nothing_is_not_taken(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    Host.objects.filter(pk=world.hosts[0].pk).update(state=HostState.CORDONED)
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).host != world.hosts[0]
    assert state_of(blank) == BlankState.READY


def test_of_hosts_that_have_one_the_tenants_emptiest_is_chosen(world: World) -> None:
    world.add_instance(world.hosts[0])
    for host in world.hosts[:2]:
        world.add_blank(host)
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).host == world.hosts[1]


def test_where_only_its_blank_has_room_it_starts_there(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    Host.objects.update(memory_capacity_bytes=blank.reserved_bytes)
    Host.objects.exclude(pk=world.hosts[0].pk).update(memory_capacity_bytes=1)
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).vm_uuid == blank.vm_uuid


# ------------------------------------------------------------------------------------------ or it does not


@pytest.mark.parametrize("call", ["adopt_vm", "unpause", "ensure_vbd"])
@pytest.mark.parametrize("error", [Gone("gone"), Busy("b"), Refused("r"), NoRoom("n")])
def test_whatever_is_refused_it_starts_as_if_there_had_been_none(
    world: World, call: str, error: HypervisorError
) -> None:
    blank = world.add_blank(world.hosts[0])
    faulty = Faulty(world.pool, before=once_named(call, error))
    operation = provision(world, instance := world.add_instance(), faulty)
    assert operation.state == State.SUCCEEDED
    now = world.assert_runs_once(instance)
    assert now.vm_uuid != blank.vm_uuid
    assert world.pool.runs == [now.vm_uuid]
    assert list(world.pool.vms_by_uuid) == [now.vm_uuid]
    assert state_of(blank) == BlankState.ENDED


def test_one_that_is_gone_is_no_loss(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    assert blank.vm_uuid is not None
    world.pool.destroy_vm(blank.vm_uuid)
    provision(world, instance := world.add_instance())
    assert world.pool.starts == [world.assert_runs_once(instance).vm_uuid]


def test_one_that_ended_while_it_stood_still_is_no_loss(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    assert blank.vm_uuid is not None
    world.pool.end(blank.vm_uuid)
    provision(world, instance := world.add_instance())
    now = world.assert_runs_once(instance)
    assert world.pool.runs == [now.vm_uuid] == world.pool.starts


def test_what_may_have_run_and_ended_is_not_run_again(world: World) -> None:
    """The answer to its last call was lost, and by the next look its program is over."""
    blank = world.add_blank(world.hosts[0])

    def lose(_number: int, _name: str) -> HypervisorError | None:
        if not world.pool.runs:
            return None
        assert blank.vm_uuid is not None
        if world.pool.vms_by_uuid[blank.vm_uuid].power_state == "Running":
            world.pool.end(blank.vm_uuid)
            return Unreachable("lost", may_have_happened=True)
        return None

    operation = provision(world, world.add_instance(), Faulty(world.pool, after=lose))
    assert operation.state == State.SUCCEEDED
    assert world.pool.runs == [blank.vm_uuid]
    assert not world.pool.starts


# -------------------------------------------------------------------------------------------- whose it is


def test_two_tenants_never_share_one(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    first = world.add_instance()
    provision(world, first)
    second = world.add_instance()
    Container.objects.filter(pk=second.container_id).update(tenant=make_tenant(slug="other"))
    provision(world, second)
    one, other = world.again(first), world.again(second)
    assert one.vm_uuid == blank.vm_uuid
    assert other.vm_uuid != one.vm_uuid
    assert Blank.objects.get().instance == one


def test_one_that_was_taken_and_given_up_is_destroyed(world: World) -> None:
    """The start is called off once its devices are in."""
    blank = world.add_blank(world.hosts[0])
    instance = world.add_instance()
    operation = ask("instance.provision", instance=instance)
    engine.advance(operation.uuid, to(world.pool), at_most=timedelta(0))
    assert state_of(blank) == BlankState.TAKEN
    Operation.objects.filter(pk=operation.pk).update(cancel_requested_at="2026-01-01T00:00Z")
    run_to_end(operation, world.pool)
    assert operation.state == State.CANCELLED
    assert state_of(blank) == BlankState.ENDED
    world.assert_nothing_of(instance)
    provision(world, other := world.add_instance())
    assert world.assert_runs_once(other).vm_uuid != blank.vm_uuid


def test_when_its_disks_find_no_room_its_blank_is_given_up_and_destroyed(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    full = Faulty(world.pool, before=once_named("ensure_vdis", NoRoom("storage_full")))
    provision(world, instance := world.add_instance(), full)
    assert world.assert_runs_once(instance).vm_uuid != blank.vm_uuid
    assert state_of(blank) == BlankState.RETIRED
    run_to_end(ask("blank.discard", blank=blank), world.pool)
    world.assert_runs_once(instance)
    assert state_of(blank) == BlankState.ENDED


def test_where_no_address_is_left_none_is_used_up(db: None) -> None:
    world = World(device="eth1")
    world.boot_directly()
    world.add_instance(world.hosts[2])
    blank = world.add_blank(world.hosts[0])
    network = Network.objects.get()
    Network.objects.filter(pk=network.pk).update(subnet=f"{network.subnet.network_address}/30")
    Instance.objects.update(ip=str(network.subnet.network_address + 2))
    operation = ask("instance.provision", instance=(instance := world.add_instance()))
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert "are taken" in operation.detail
    assert state_of(blank) == BlankState.READY
    assert world.again(instance).host is None
    world.assert_ledger_is_right()


# ------------------------------------------------------------------------------------------- what follows


def test_what_began_warm_restarts_as_any_other(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    provision(world, instance := world.add_instance())
    run_to_end(ask("instance.restart", instance=world.again(instance)), world.pool)
    now = world.assert_runs_once(instance)
    assert now.vm_uuid == blank.vm_uuid
    assert world.pool.runs == [now.vm_uuid, now.vm_uuid]


def test_what_began_warm_changes_its_size_as_any_other(world: World) -> None:
    world.add_blank(world.hosts[0])
    provision(world, instance := world.add_instance())
    bigger = resize_container(
        container=world.again(instance).container, memory_bytes=512 * MIB, requested_by="t"
    )
    run_to_end(bigger, world.pool)
    assert world.assert_runs_once(instance).memory_bytes == 512 * MIB


def test_what_began_warm_moves_and_goes_as_any_other(world: World) -> None:
    world.add_blank(world.hosts[0])
    provision(world, instance := world.add_instance())
    run_to_end(ask("instance.migrate", instance=world.again(instance)), world.pool)
    assert world.assert_runs_once(instance).host != world.hosts[0]
    gone = delete_container(container=world.again(instance).container, requested_by="t")
    run_to_end(gone, world.pool)
    world.assert_nothing_of(instance)


# ---------------------------------------------------------------------------------------------- its hosts


def test_a_drained_hosts_blanks_are_not_moved_but_destroyed(world: World) -> None:
    blanks = [world.add_blank(world.hosts[0]) for _ in range(2)]
    making = world.ask_for_blank(world.hosts[0])
    ask("blank.prepare", blank=making)
    instance = world.add_instance(world.hosts[0])
    Host.objects.filter(pk=world.hosts[0].pk).move_to(HostState.DRAINING)
    run_to_end(ask("host.evacuate", host=world.hosts[0]), world.pool)
    now = world.assert_runs_once(instance)
    assert [move[0] for move in world.pool.moves] == [now.vm_uuid]
    assert {state_of(blank) for blank in (*blanks, making)} == {BlankState.ENDED}
    host = Host.objects.get(pk=world.hosts[0].pk)
    assert (host.state, host.memory_reserved_bytes) == (HostState.MAINTENANCE, 0)


def test_a_dead_hosts_blanks_are_written_off(world: World) -> None:
    dead = world.hosts[0]
    blank = world.add_blank(dead)
    kept = world.add_blank(world.hosts[1])
    starting = world.add_instance()
    Blank.objects.filter(pk=kept.pk).update(boot_args="other")
    operation = ask("instance.provision", instance=starting)
    engine.advance(operation.uuid, to(world.pool), at_most=timedelta(0))
    assert state_of(blank) == BlankState.TAKEN
    unused = world.add_blank(dead)
    world.pool.master = world.hosts[2].pk
    world.pool.fall_silent(dead.pk)
    FENCES[dead.pk] = FakeFence(on_power_off=lambda: world.pool.cut_power(dead.pk))
    recovery = ask("host.recover", host=dead)
    while Operation.objects.active().filter(pk=operation.pk).exists():  # until it is handed over
        let_time_pass()
        engine.advance(recovery.uuid, to(world.pool), at_most=timedelta(0))
    run_to_end(recovery, world.pool)
    assert {state_of(one) for one in (blank, unused)} == {BlankState.ENDED}
    assert state_of(kept) == BlankState.READY
    assert Host.objects.get(pk=dead.pk).memory_reserved_bytes == 0
    now = world.assert_runs_once(starting)
    assert now.host != dead
    assert now.vm_uuid not in (blank.vm_uuid, unused.vm_uuid)


# ---------------------------------------------------------------------------------------- when room is short


def test_blanks_make_room_for_whoever_starts(world: World) -> None:
    blanks = [world.add_blank(host, memory_bytes=128 * MIB) for host in world.hosts]
    spare = world.add_blank(world.hosts[0], memory_bytes=128 * MIB)
    for host in Host.objects.all():
        Host.objects.filter(pk=host.pk).update(memory_capacity_bytes=host.memory_reserved_bytes)
    Host.objects.filter(pk=world.hosts[0].pk).update(memory_capacity_bytes=300 * MIB)
    provision(world, instance := world.add_instance())
    assert world.assert_runs_once(instance).host == world.hosts[0]
    assert sorted(map(state_of, (blanks[0], spare))) == [BlankState.ENDED, BlankState.ENDED]
    assert {state_of(one) for one in blanks[1:]} == {BlankState.READY}


def test_what_finds_no_room_anyhow_costs_no_blank(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    Host.objects.update(memory_capacity_bytes=blank.reserved_bytes)
    instance = world.add_instance()
    Instance.objects.filter(pk=instance.pk).update(memory_bytes=1024 * MIB)
    operation = ask("instance.provision", instance=instance)
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert operation.detail.startswith("No host for")
    assert state_of(blank) == BlankState.READY


# ------------------------------------------------------------------------------------------- how it is made


def prepare(world: World, host: Host) -> tuple[Operation, Blank]:
    blank = world.ask_for_blank(host)
    return run_to_end(ask("blank.prepare", blank=blank), world.pool), Blank.objects.get(pk=blank.pk)


def test_its_kernel_is_told_that_it_waits(world: World) -> None:
    _, blank = prepare(world, world.hosts[0])
    assert blank.vm_uuid is not None
    assert world.pool.args[blank.vm_uuid] == "quiet bulkhead.blank"


def test_it_has_an_empty_disk_of_its_own(world: World) -> None:
    _, blank = prepare(world, world.hosts[0])
    assert blank.vm_uuid is not None
    assert blank.disk_uuid is not None
    (vbd,) = world.pool.vbds(blank.vm_uuid)
    assert (vbd.vdi, vbd.device) == (blank.disk_uuid, machines.ROLES["scratch"])
    disk = world.pool.vdis_by_uuid[blank.disk_uuid]
    assert (disk.sr, disk.virtual_size_bytes) == (world.sr, blank.disk_bytes)
    assert not world.pool.vifs(blank.vm_uuid)


def test_it_has_an_interface_that_leads_nowhere_where_instances_have_one() -> None:
    world = networked()
    blanks = [prepare(world, host)[1] for host in world.hosts[:2]]
    parked = []
    for blank in blanks:
        assert blank.vm_uuid is not None
        (vif,) = world.pool.vifs(blank.vm_uuid)
        assert (vif.mac, vif.locking_mode) == (blank.mac, "disabled")
        assert vif.network not in world.pool.vlans
        parked.append(vif.network)
    # One network without a cable keeps all that are on it on one host.
    assert len(set(parked)) == 2


def test_a_guest_that_knows_nothing_of_it_is_no_blank(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_blank, "PATIENCE", timedelta(0))
    world.pool.mute = True
    operation, blank = prepare(world, world.hosts[0])
    assert (operation.state, blank.state) == (State.FAILED, BlankState.ENDED)
    assert "never said" in operation.error
    assert not world.pool.vms_by_uuid
    world.assert_ledger_is_right()


def test_a_pool_that_boots_from_disks_has_none(db: None) -> None:
    world = World()
    operation, blank = prepare(world, world.hosts[0])
    assert (operation.state, blank.state) == (State.FAILED, BlankState.ENDED)
    assert not world.pool.vms_by_uuid
    world.assert_ledger_is_right()


def test_a_host_that_takes_nothing_gets_none(world: World) -> None:
    Host.objects.update(state=HostState.CORDONED)
    operation, blank = prepare(world, world.hosts[0])
    assert (operation.state, operation.error_code) == (State.FAILED, "no_room")
    assert (blank.state, blank.reserved_bytes) == (BlankState.ENDED, 0)


def test_one_that_is_retired_while_it_is_made_is_destroyed(world: World) -> None:
    blank = world.ask_for_blank(world.hosts[0])
    operation = ask("blank.prepare", blank=blank)
    engine.advance(operation.uuid, to(world.pool), at_most=timedelta(0))
    assert Blank.objects.all().retire(blank)
    run_to_end(operation, world.pool)
    assert operation.state == State.FAILED
    assert not world.pool.vms_by_uuid
    world.assert_ledger_is_right()


def test_one_that_somebody_took_is_not_discarded(world: World) -> None:
    blank = world.add_blank(world.hosts[0])
    operation = ask("instance.provision", instance=(instance := world.add_instance()))
    engine.advance(operation.uuid, to(world.pool), at_most=timedelta(0))
    run_to_end(ask("blank.discard", blank=blank), world.pool)
    run_to_end(operation, world.pool)
    assert world.assert_runs_once(instance).vm_uuid == blank.vm_uuid
