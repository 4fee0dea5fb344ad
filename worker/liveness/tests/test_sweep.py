"""Looking at the lab's hosts as they die, and at our own network as it does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db.models.functions import Now

from deploy.lab.lab import Lab
from deploy.lab.testing import RunningLab, running_lab
from hosting import keyring
from hosting.alarms.selectors import standing_alarms
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pool
from hosting.fleet.tests.makers import make_host, make_pool
from worker.fencing.port import Fence
from worker.hypervisor.xapi import read_certificate
from worker.hypervisor.xapi.transport import Endpoint
from worker.liveness.judge import Reading, Rule, Signal
from worker.liveness.probes import ask_api
from worker.liveness.sweep import Probes, sweep

pytestmark = pytest.mark.django_db

AT_ONCE = Rule(silence=timedelta(0))


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(3, sides=True, rate=50.0) as lab:
        yield lab


@pytest.fixture
def pool(lab: RunningLab) -> Iterator[Pool]:
    """The lab's pool as a follower that just heard of it has it."""
    candidates = [
        {"address": f"{m.address}:{m.port}", "certificate": m.certificate, "host": m.host.uuid}
        for m in lab.lab.machines.values()
    ]
    pool = make_pool(url=lab.url, candidates=candidates, last_seen_at=Now())
    for machine in lab.lab.machines.values():
        url = lab.bmc_url(machine.name)
        make_host(
            pool,
            uuid=machine.host.uuid,
            name=machine.name,
            address=machine.address,
            bmc_url=url,
            bmc_username=lab.lab.config.bmc_username,
            sealed_bmc_password=keyring.seal(lab.lab.config.bmc_password),
            bmc_certificate=read_certificate(url).pem,
        )
    pool.refresh_from_db()
    yield pool
    lab.do(give_power_back)
    for machine in lab.lab.machines.values():
        answers = (ask_api(Endpoint(machine.address, machine.port)) for _ in range(1000))
        assert Reading.ALIVE in answers


def give_power_back(lab: Lab) -> None:
    for machine in lab.machines.values():
        if not machine.powered:
            machine.power_on()


def cut_power(lab: RunningLab, name: str) -> Any:
    machine = lab.lab.machine(name)
    lab.do(lambda _lab: machine.power_off())
    return machine.host.uuid


def host_named(name: str) -> Host:
    return Host.objects.get(name=name)


def test_a_pool_that_is_well_leaves_no_doubt(pool: Pool) -> None:
    verdict = sweep(pool, rule=AT_ONCE)
    assert (verdict.suspects, verdict.doubted, verdict.ourselves) == ({}, {}, False)


def test_a_host_without_power_is_suspected_by_two_signals(lab: RunningLab, pool: Pool) -> None:
    cut_power(lab, "h3")
    verdict = sweep(pool, rule=AT_ONCE)
    assert verdict.suspects == {host_named("h3").pk: frozenset({Signal.API, Signal.POWER})}


def test_silence_counts_from_sweep_to_sweep(lab: RunningLab, pool: Pool) -> None:
    cut_power(lab, "h3")
    rule = Rule(silence=timedelta(microseconds=1))
    assert not sweep(pool, rule=rule).suspects
    assert list(sweep(pool, rule=rule).suspects) == [host_named("h3").pk]


def test_a_toolstack_that_crashed_makes_no_suspect(lab: RunningLab, pool: Pool) -> None:
    machine = lab.lab.machine("h3")
    lab.do(lambda _lab: machine.crash_toolstack())
    try:
        verdict = sweep(pool, rule=AT_ONCE)
        assert verdict.doubted == {host_named("h3").pk: frozenset({Signal.API})}
        assert not verdict.suspects
    finally:
        lab.do(lambda _lab: machine.restart_toolstack())


def blind(_endpoint: Endpoint) -> Reading:
    return Reading.SILENT


def test_when_we_are_blind_nobody_is_suspected_and_a_person_is_told(pool: Pool) -> None:
    verdict = sweep(pool, rule=AT_ONCE, probes=Probes(api=blind))
    assert verdict.ourselves
    assert not verdict.suspects
    assert [alarm.code for alarm in standing_alarms()] == ["half-of-pool-silent"]
    sweep(pool, rule=AT_ONCE, probes=Probes(api=lambda _: Reading.ALIVE))
    assert not standing_alarms().exists()


def test_hosts_that_are_not_meant_to_run_are_not_asked(pool: Pool) -> None:
    Host.objects.exclude(name="h1").update(state=HostState.MAINTENANCE)
    asked: list[Endpoint] = []

    def note(endpoint: Endpoint) -> Reading:
        asked.append(endpoint)
        return Reading.ALIVE

    sweep(pool, rule=AT_ONCE, probes=Probes(api=note))
    assert [endpoint.host for endpoint in asked] == [host_named("h1").address]


def test_controllers_of_hosts_that_answer_are_left_in_peace(pool: Pool) -> None:
    def refuse(fence: Fence) -> Reading:
        raise AssertionError(fence)

    sweep(pool, rule=AT_ONCE, probes=Probes(power=refuse))


def test_an_old_mirror_says_nothing_but_of_its_master(pool: Pool) -> None:
    Pool.objects.update(last_seen_at=Now() - timedelta(minutes=5), master=host_named("h1"))
    Host.objects.update(live=False)
    pool.refresh_from_db()
    verdict = sweep(pool, rule=AT_ONCE)
    assert verdict.doubted == {host_named("h1").pk: frozenset({Signal.HEARTBEAT})}


def test_a_host_whose_controller_is_silent_too_has_one_signal_less(
    lab: RunningLab, pool: Pool
) -> None:
    cut_power(lab, "h3")
    Host.objects.filter(name="h3").update(bmc_url="https://127.0.0.1:1/redfish/v1/Systems/1")
    assert not sweep(pool, rule=AT_ONCE).suspects
    Host.objects.filter(name="h3").update(live=False)
    assert sweep(pool, rule=AT_ONCE).suspects


def test_a_host_without_a_controller_is_judged_by_the_rest(lab: RunningLab, pool: Pool) -> None:
    cut_power(lab, "h3")
    Host.objects.filter(name="h3").update(bmc_url="", live=False)
    assert sweep(pool, rule=AT_ONCE).suspects


def test_a_memory_of_another_version_is_forgotten(lab: RunningLab, pool: Pool) -> None:
    cut_power(lab, "h3")
    for kept in (
        "words",
        {"at": "never"},
        {"at": "2030-01-01T00:00:00+00:00", "silences": {"x": {}}},
    ):
        cache.set(f"liveness:{pool.pk}", kept)
        assert not sweep(pool).suspects


def test_nobody_listening_is_silence() -> None:
    assert ask_api(Endpoint("127.0.0.1", 1), 1.0) is Reading.SILENT
