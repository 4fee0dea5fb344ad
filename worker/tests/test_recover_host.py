"""A silent host: never two copies of one VM, and everything that should run does in the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db.models.functions import Now

from hosting.alarms.models import Alarm
from hosting.alarms.services import open_alarm
from hosting.compute.choices import DesiredState
from hosting.compute.models import Container, Instance
from hosting.compute.services import delete_container
from hosting.errors import Conflict, InvalidRequest
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.services import confirm_host_is_off
from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker import engine
from worker.fencing.fake import FakeFence
from worker.tests.support import let_time_pass, run_to_end, to
from worker.tests.worlds import FENCES, World

pytestmark = pytest.mark.django_db


class Silence:
    """A world whose first host has fallen silent, with `there` on it."""

    def __init__(self, *, instances: int = 1) -> None:
        self.world = World()
        self.dead, self.alive, self.third = self.world.hosts
        self.there = [self.world.add_instance(self.dead) for _ in range(instances)]
        self.pool = self.world.pool
        self.pool.fall_silent(self.dead.pk)
        self.pool.master = self.third.pk
        self.fence = FakeFence(on_power_off=lambda: self.pool.cut_power(self.dead.pk))
        FENCES[self.dead.pk] = self.fence

    def recover(self) -> Operation:
        return Operation.objects.create(kind="host.recover", host=self.dead, requested_by="t")

    def go_on(self, operation: Operation, rounds: int = 5) -> Operation:
        for _ in range(rounds):
            let_time_pass()
            engine.advance(operation.uuid, to(self.pool))
        operation.refresh_from_db()
        return operation

    def state(self) -> str:
        return Host.objects.get(pk=self.dead.pk).state


@pytest.fixture
def silence(db: None) -> Silence:
    return Silence()


def test_one_that_answers_again_goes_on_as_before(silence: Silence) -> None:
    Host.objects.filter(pk=silence.dead.pk).update(state=HostState.CORDONED)
    silence.pool.silent.clear()
    done = run_to_end(silence.recover(), silence.pool)
    assert (done.state, silence.state()) == (State.SUCCEEDED, HostState.CORDONED)
    assert silence.fence.powered
    silence.world.assert_runs_once(silence.there[0])


@pytest.mark.parametrize("fault", ["unreachable", "ignores", "refuses", "lies_once"])
def test_without_a_proven_fence_nothing_is_done_but_telling(silence: Silence, fault: Any) -> None:
    silence.fence.fault = fault
    operation = silence.go_on(silence.recover())
    assert (operation.step, silence.state()) == ("fence", HostState.SUSPECT)
    assert Alarm.objects.get().code == "host-not-fenced"
    assert silence.pool.starts == []
    silence.world.assert_runs_once(silence.there[0])


def test_a_fence_that_works_at_last_closes_the_alarm_and_recovers(silence: Silence) -> None:
    silence.fence.fault = "unreachable"
    operation = silence.go_on(silence.recover())
    silence.fence.fault = None
    run_to_end(operation, silence.pool)
    assert not Alarm.objects.get().is_standing
    assert silence.world.assert_runs_once(silence.there[0]).host != silence.dead


def test_one_that_comes_back_while_its_fence_fails_goes_on_as_before(silence: Silence) -> None:
    silence.fence.fault = "unreachable"
    operation = silence.go_on(silence.recover())
    silence.pool.silent.clear()
    silence.fence.fault = None
    operation = silence.go_on(operation)
    assert (operation.state, silence.state()) == (State.SUCCEEDED, HostState.ACCEPTING)
    assert silence.fence.powered
    assert not Alarm.objects.get().is_standing


def vouch(silence: Silence, name: str = "") -> Operation:
    return confirm_host_is_off(silence.dead, name or silence.dead.name, actor="user:olga")


def test_a_persons_word_stands_for_a_fence_that_cannot_prove_it(silence: Silence) -> None:
    silence.fence.fault = "unreachable"
    operation = silence.go_on(silence.recover())
    silence.pool.cut_power(silence.dead.pk)  # by hand, at the machine
    assert vouch(silence) == operation
    run_to_end(operation, silence.pool)
    assert silence.state() == HostState.DEAD
    assert silence.world.assert_runs_once(silence.there[0]).host != silence.dead
    assert not Alarm.objects.get().is_standing


def test_a_persons_word_is_not_taken_while_the_host_answers(silence: Silence) -> None:
    silence.fence.fault = "unreachable"
    operation = silence.go_on(silence.recover())
    vouch(silence)
    silence.pool.silent.clear()
    operation = silence.go_on(operation)
    assert (operation.step, silence.state()) == ("fence", HostState.SUSPECT)
    assert "user:olga vouches that it is off, yet it answers" in operation.detail
    assert silence.pool.starts == []


def test_a_word_given_in_one_recovery_does_not_count_in_the_next(silence: Silence) -> None:
    silence.fence.fault = "unreachable"
    silence.go_on(silence.recover())
    vouch(silence)
    for state in (HostState.ACCEPTING, HostState.SUSPECT):
        assert Host.objects.filter(pk=silence.dead.pk).move_to(state)
    operation = silence.go_on(Operation.objects.get(kind="host.recover"))
    assert (operation.step, silence.state()) == ("fence", HostState.SUSPECT)


def test_nobody_vouches_before_a_fence_has_failed(silence: Silence) -> None:
    silence.recover()
    with pytest.raises(Conflict, match="no fence of it has failed"):
        vouch(silence)


def test_whoever_vouches_types_the_name_of_the_host(silence: Silence) -> None:
    silence.fence.fault = "unreachable"
    silence.go_on(silence.recover())
    with pytest.raises(InvalidRequest, match="not the name"):
        vouch(silence, "xen-2")
    assert not Host.objects.get(pk=silence.dead.pk).is_confirmed_off


def test_while_we_doubt_our_own_eyes_nobody_is_fenced(silence: Silence) -> None:
    open_alarm(f"half-of-pool-silent:{silence.dead.pool_id}", title="half")
    operation = silence.go_on(silence.recover())
    assert (operation.step, silence.fence.powered) == ("suspect", True)
    Alarm.objects.update(closed_at=Now())
    run_to_end(operation, silence.pool)
    assert not silence.fence.powered


def test_a_dead_master_is_followed_by_another(silence: Silence) -> None:
    silence.pool.master = silence.dead.pk
    type(silence.world.row).objects.filter(pk=silence.world.row.pk).update(master=silence.dead)
    done = run_to_end(silence.recover(), silence.pool)
    assert done.state == State.SUCCEEDED
    assert silence.pool.master in {silence.alive.pk, silence.third.pk}
    assert silence.world.assert_runs_once(silence.there[0]).host != silence.dead


def test_what_was_being_done_there_is_taken_over(silence: Silence) -> None:
    instance = silence.there[0]
    stopping = Operation.objects.create(kind="instance.stop", instance=instance, requested_by="t")
    recovery = silence.recover()
    run_to_end(recovery, silence.pool)
    stopping.refresh_from_db()
    assert (stopping.state, stopping.superseded_by) == (State.SUPERSEDED, recovery)


def test_what_was_to_stop_stays_down(silence: Silence) -> None:
    instance = silence.there[0]
    Container.objects.filter(pk=instance.container_id).update(desired_state=DesiredState.STOPPED)
    run_to_end(silence.recover(), silence.pool)
    assert silence.world.again(instance).host is None
    assert silence.pool.starts == []
    silence.world.assert_ledger_is_right()


def test_what_was_to_be_deleted_is(silence: Silence) -> None:
    instance = silence.there[0]
    delete_container(container=instance.container, requested_by="t")
    run_to_end(silence.recover(), silence.pool)
    silence.world.assert_nothing_of(instance)
    assert not Instance.objects.all().living()


def test_what_had_never_run_is_made_anew(silence: Silence) -> None:
    instance = silence.there[0]
    Instance.objects.filter(pk=instance.pk).update(published_at=None)
    run_to_end(silence.recover(), silence.pool)
    assert silence.world.assert_runs_once(instance).published_at is not None


def test_one_that_had_arrived_elsewhere_is_left_there(silence: Silence) -> None:
    instance = silence.there[0]
    assert instance.vm_uuid is not None
    assert Instance.objects.all().take_target(instance, silence.alive.pk)
    silence.pool._move(instance.vm_uuid, silence.alive.pk)
    run_to_end(silence.recover(), silence.pool)
    assert silence.world.assert_runs_once(instance).host == silence.alive
    assert silence.pool.starts == []


def test_one_that_was_coming_stays_where_it_is(silence: Silence) -> None:
    coming = silence.world.add_instance(silence.alive)
    assert Instance.objects.all().take_target(coming, silence.dead.pk)
    run_to_end(silence.recover(), silence.pool)
    assert silence.world.assert_runs_once(coming).host == silence.alive


def test_locks_that_its_death_left_are_cleared(silence: Silence) -> None:
    for uuid, vdi in silence.pool.vdis_by_uuid.items():
        silence.pool.vdis_by_uuid[uuid] = replace(vdi, locked_by=(silence.dead.pk,))
    run_to_end(silence.recover(), silence.pool)
    assert not any(vdi.locked_by for vdi in silence.pool.vdis())


def test_those_for_whom_there_is_no_room_wait_and_start_when_there_is(db: None) -> None:
    silence = Silence(instances=2)
    need = silence.world.again(silence.there[0]).reserved_bytes
    others = [silence.alive.pk, silence.third.pk]
    Host.objects.filter(pk__in=others).update(memory_capacity_bytes=need - 1)
    Host.objects.filter(pk=silence.alive.pk).update(memory_capacity_bytes=need)
    with pytest.raises(AssertionError, match="stuck at restart"):
        run_to_end(silence.recover(), silence.pool, limit=12)
    assert len(silence.pool.starts) == 1
    waiting = Operation.objects.active().get(kind="instance.start")
    assert "No host for" in waiting.detail
    Host.objects.filter(pk=silence.third.pk).update(memory_capacity_bytes=need)
    run_to_end(Operation.objects.get(kind="host.recover"), silence.pool)
    for instance in silence.there:
        silence.world.assert_runs_once(instance)
