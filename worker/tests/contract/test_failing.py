"""Hosts, sessions and answers that fail; and the way back from it."""

import contextlib
import dataclasses
import time
from datetime import timedelta
from uuid import UUID

import pytest

from deploy.lab.testing import RunningLab
from worker.hypervisor.port import (
    Candidate,
    PoolConnection,
    Refused,
    Unreachable,
    UntranslatedFailure,
)
from worker.hypervisor.xapi import connect, fingerprint, read_certificate
from worker.tests.contract.conftest import SOON, Place, Workshop


def machine(lab: RunningLab, host: UUID) -> str:
    return lab.do(lambda x: next(m.name for m in x.machines.values() if m.host.uuid == str(host)))


# ------------------------------------------------------------------------------------------- connecting


def test_a_certificate_can_be_seen_before_anything_is_said(place: Place) -> None:
    seen = read_certificate(place.connection.url)
    pinned = {fingerprint(c.certificate) for c in place.connection.candidates}
    assert seen.fingerprint in pinned


def test_every_host_of_the_pool_becomes_a_candidate(place: Place) -> None:
    stored: list[tuple[Candidate, ...]] = []
    first = dataclasses.replace(place.connection, candidates=place.connection.candidates[:1])
    again = place.connect(first, candidates_changed=stored.append)
    hosts = {host.uuid for host in again.hosts()}
    assert {candidate.host for candidate in stored[-1]} == hosts
    assert all("BEGIN CERTIFICATE" in candidate.certificate for candidate in stored[-1])


def test_certificates_are_told_over_the_trusted_connection(place: Place) -> None:
    told = {c.host: fingerprint(c.certificate) for c in place.hypervisor.server_certificates()}
    assert told[place.master()] == read_certificate(place.connection.url).fingerprint


def test_a_host_with_another_certificate_is_refused(place: Place, lab: RunningLab) -> None:
    url = lab.url
    others = [c for u, c in zip(lab.urls, lab.certificates, strict=True) if u != url]
    wrong = Candidate(url.removeprefix("https://"), others[0])
    with pytest.raises(Unreachable) as error:
        place.connect(dataclasses.replace(place.connection, candidates=(wrong,))).pool()
    assert (error.value.reason, error.value.may_have_happened) == ("certificate", False)


def test_a_wrong_password_is_said(place: Place) -> None:
    with pytest.raises(Unreachable) as error:
        place.connect(dataclasses.replace(place.connection, password="wrong")).pool()
    assert error.value.reason == "credentials"


def test_a_slave_leads_to_the_master(place: Place, lab: RunningLab) -> None:
    slave = next(url for url in lab.urls if url != lab.url)
    hypervisor = place.connect(dataclasses.replace(place.connection, url=slave))
    assert hypervisor.pool() == place.hypervisor.pool()


def test_a_pool_where_nobody_listens_is_unreachable(place: Place) -> None:
    nobody = Candidate("127.0.0.1:9", place.connection.candidates[0].certificate)
    connection = PoolConnection("x", "https://127.0.0.1:9", "root", "x", (nobody,))
    with pytest.raises(Unreachable) as error:
        connect(connection).pool()
    assert not error.value.may_have_happened


# ------------------------------------------------------------------------------------------------ calls


def test_a_slow_answer_is_given_up_in_time(place: Place, lab: RunningLab) -> None:
    hurried = dataclasses.replace(place.connection, call_timeout=timedelta(seconds=0.5))
    hypervisor = place.connect(hurried)
    hypervisor.pool()
    lab.do(lambda x: x.faults.inject("pool.get_all_records", "delay", seconds=3000.0))
    began = time.monotonic()
    with pytest.raises(Unreachable) as error:
        hypervisor.pool()
    assert error.value.reason == "timeout"
    assert time.monotonic() - began < 5


def test_a_lost_answer_to_a_question_is_not_noticed(place: Place, lab: RunningLab) -> None:
    lab.do(lambda x: x.faults.inject("pool.get_all_records", "drop_after"))
    assert place.hypervisor.pool().master is not None


def test_an_error_nobody_knows_is_our_bug(place: Place, lab: RunningLab) -> None:
    lab.do(
        lambda x: x.faults.inject("pool.get_all_records", "error", error=("MARS_IN_RETROGRADE",))
    )
    with pytest.raises(UntranslatedFailure) as error:
        place.hypervisor.pool()
    assert error.value.code == "MARS_IN_RETROGRADE"


def test_a_lost_session_is_not_noticed(place: Place, workshop: Workshop, lab: RunningLab) -> None:
    vm = workshop.vm()
    lab.do(lambda x: x.sessions.forget_all())
    assert place.hypervisor.vm(vm.uuid) == vm


def test_a_session_lost_while_a_task_is_awaited_is_not_noticed(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    task = place.hypervisor.start_on(workshop.vm_with_disk().uuid, place.master())
    lab.do(lambda x: x.sessions.forget_all())
    assert place.hypervisor.wait(task, SOON).status == "success"


# ------------------------------------------------------------------------------------------------ hosts


def test_a_host_that_lives_says_something(place: Place) -> None:
    (slave,) = place.slaves(1)
    assert place.hypervisor.host_answers(slave, timedelta(seconds=5))


def test_a_live_host_is_not_declared_dead(place: Place, workshop: Workshop) -> None:
    (slave,) = place.slaves(1)
    with pytest.raises(Refused) as error:
        place.hypervisor.wait(place.hypervisor.declare_dead(slave), SOON)
    assert error.value.reason == "host_is_live"


def test_a_running_vms_state_is_not_reset(place: Place, workshop: Workshop) -> None:
    vm = workshop.running(place.master())
    with pytest.raises(Refused) as error:
        place.hypervisor.power_state_reset(vm.uuid)
    assert error.value.reason == "domain_exists"


def test_a_dead_hosts_vms_start_elsewhere_once_it_is_declared_dead(own_lab: Place) -> None:
    hypervisor, lab = own_lab.hypervisor, own_lab.lab
    assert lab is not None
    dead, other = own_lab.slaves(2)
    workshop = Workshop(own_lab)
    vm = workshop.running(dead)
    name = machine(lab, dead)
    lab.do(lambda x: x.machine(name).power_off())
    assert not hypervisor.host_answers(dead, timedelta(seconds=1))
    hypervisor.wait(hypervisor.declare_dead(dead), timedelta(seconds=60))
    after = hypervisor.vm(vm.uuid)
    assert (after.power_state, after.resident_on) == ("Halted", None)
    assert not hypervisor.host(dead).enabled
    (vbd,) = hypervisor.vbds(vm.uuid)
    assert vbd.vdi is not None
    hypervisor.clear_locks(vbd.vdi, dead)
    assert hypervisor.vdi(vbd.vdi).locked_by == ()
    hypervisor.wait(hypervisor.start_on(vm.uuid, other), SOON)
    assert hypervisor.vm(vm.uuid).resident_on == other
    assert lab.do(lambda x: list(x.detector.violations)) == []


def test_a_host_is_not_live_ten_minutes_after_its_last_heartbeat(own_lab: Place) -> None:
    lab = own_lab.lab
    assert lab is not None
    (dead,) = own_lab.slaves(1)
    name = machine(lab, dead)
    lab.do(lambda x: x.machine(name).power_off())
    assert own_lab.hypervisor.host(dead).live
    lab.clock.advance(700)
    assert not own_lab.hypervisor.host(dead).live


def test_vms_that_cannot_leave_are_named(place: Place, workshop: Workshop) -> None:
    (host,) = place.slaves(1)
    local = {pbd.sr for pbd in place.hypervisor.pbds() if pbd.host == host}
    srs = [s for s in place.hypervisor.srs() if s.uuid in local and s.type == "ext"]
    if not srs:
        pytest.skip("the host has no local storage")
    vm = workshop.booted(host, sr=srs[0].uuid)
    stuck = place.hypervisor.vms_preventing_evacuation(host)
    assert stuck[vm.uuid] == "storage_not_reachable"


# ---------------------------------------------------------------------------------------------- masters


def test_a_planned_change_of_master_is_followed(own_lab: Place) -> None:
    (new,) = own_lab.slaves(1)
    watcher = own_lab.hypervisor.watcher()
    watcher.changes(timedelta(0))
    with contextlib.suppress(Unreachable):  # the old master restarts before it answers
        own_lab.hypervisor.designate_new_master(new)
    assert becomes_master(own_lab, new)
    changes = watcher.changes(timedelta(seconds=1))
    assert (changes.full, changes.master) == (True, new)


def test_a_dead_master_is_replaced_and_found_again(own_lab: Place) -> None:
    hypervisor, lab = own_lab.hypervisor, own_lab.lab
    assert lab is not None
    workshop = Workshop(own_lab)
    new, other = own_lab.slaves(2)
    old = own_lab.master()
    vm = workshop.running(new)
    hypervisor.sync_database()
    watcher = hypervisor.watcher()
    watcher.changes(timedelta(0))
    name = machine(lab, old)
    lab.do(lambda x: x.machine(name).power_off())
    with pytest.raises(Unreachable):
        hypervisor.pool()
    lab.clock.advance(200)  # the slaves give up on their master
    hypervisor.emergency_transition_to_master(new)
    lab.clock.advance(60)
    assert becomes_master(own_lab, new)
    assert other in hypervisor.recover_slaves()
    hypervisor.wait(hypervisor.declare_dead(old), timedelta(seconds=60))
    assert hypervisor.vm(vm.uuid).resident_on == new
    changes = watcher.changes(timedelta(seconds=1))
    assert (changes.full, changes.master) == (True, new)


def becomes_master(place: Place, host: UUID) -> bool:
    """Whether it is, before long; restarting a toolstack takes its time."""
    lab = place.lab
    assert lab is not None
    for _ in range(30):
        with contextlib.suppress(Unreachable):
            if place.master() == host:
                return True
        lab.clock.advance(10)
    return False
