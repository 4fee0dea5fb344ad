"""One look at every host of a pool, and who is suspected after it. It acts on nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db.models.functions import Now

from hosting import keyring
from hosting.alarms.choices import Severity
from hosting.alarms.services import close_alarm, open_alarm
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host, Pool
from worker.connections import candidates_from
from worker.fencing.hosts import fence_of
from worker.fencing.port import Fence, FenceRefused
from worker.fencing.redfish import Patience
from worker.hypervisor.xapi.transport import Endpoint
from worker.liveness.judge import Judgement, Memory, Reading, Rule, Signal, judge
from worker.liveness.probes import ask_api, ask_power

log = structlog.get_logger(__name__)

# Hosts that are meant to run. Of the others silence is no news.
_EXPECTED = (HostState.ACCEPTING, HostState.CORDONED, HostState.DRAINING, HostState.SUSPECT)
# The master marks a host dead after ten minutes, and tells its follower at once: a mirror as old as this
# says nothing of now.
_FRESH = timedelta(seconds=60)
_AT_ONCE = 32
# Longer than any gap that still counts.
_REMEMBERED = 300
_POWER_PATIENCE = Patience(per_exchange=3.0, per_call=6.0)


@dataclass(frozen=True, slots=True)
class Probes:
    """How hosts are asked; tests give others."""

    api: Callable[[Endpoint], Reading] = ask_api
    power: Callable[[Fence], Reading] = ask_power


PROBES = Probes()


def rule_by_settings() -> Rule:
    return Rule(silence=timedelta(seconds=settings.HOST_SILENCE_SECONDS))


def sweep(pool: Pool, *, rule: Rule | None = None, probes: Probes = PROBES) -> Judgement:
    """Ask, judge, remember; open or close the alarm that our own eyes fail.

    To be called every ten seconds or so by one caller a pool; a memory that is lost only makes suspicion
    begin anew. Takes about ten seconds at most for 64 hosts that all hang.
    """
    rule = rule or rule_by_settings()
    now = _database_clock(pool)
    hosts = list(Host.objects.present().filter(pool=pool, state__in=_EXPECTED).order_by("pk"))
    readings = _read(pool, hosts, now, probes)
    key = f"liveness:{pool.pk}"
    judgement = judge(readings, _load(cache.get(key)), now, rule)
    cache.set(key, _dump(judgement.memory), _REMEMBERED)
    _alarm(pool, judgement, len(hosts))
    return judgement


def _database_clock(pool: Pool) -> datetime:
    now: datetime = Pool.objects.filter(pk=pool.pk).values_list(Now(), flat=True).get()
    return now


def _read(
    pool: Pool, hosts: list[Host], now: datetime, probes: Probes
) -> dict[UUID, dict[Signal, Reading]]:
    addresses = _addresses(pool)
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="liveness") as threads:
        endpoints = [_endpoint(pool, host, addresses) for host in hosts]
        answers = list(threads.map(probes.api, endpoints))
        readings = {
            host.pk: {Signal.HEARTBEAT: _heartbeat(pool, host, now), Signal.API: answer}
            for host, answer in zip(hosts, answers, strict=True)
        }
        # Controllers are slow and few like to be asked often: only of hosts that keep silent.
        quiet = [host for host in hosts if Reading.SILENT in readings[host.pk].values()]
        fences = {host.pk: fence for host in quiet if (fence := _fence(host)) is not None}
        for uuid, answer in zip(fences, threads.map(probes.power, fences.values()), strict=True):
            readings[uuid][Signal.POWER] = answer
    return readings


def _heartbeat(pool: Pool, host: Host, now: datetime) -> Reading:
    """What the master last said, while that is fresh. Of a master that is silent itself: silent."""
    seen = pool.last_seen_at
    if seen is not None and now - seen <= _FRESH:
        return Reading.ALIVE if host.live else Reading.SILENT
    return Reading.SILENT if pool.master_id == host.pk else Reading.UNKNOWN


def _addresses(pool: Pool) -> Mapping[UUID, str]:
    known = candidates_from(pool.candidates)
    return {one.host: one.address for one in known if one.host is not None}


def _endpoint(pool: Pool, host: Host, addresses: Mapping[UUID, str]) -> Endpoint:
    return Endpoint.parse(addresses.get(host.pk, host.address), Endpoint.parse(pool.url).port)


def _fence(host: Host) -> Fence | None:
    try:
        return fence_of(host, patience=_POWER_PATIENCE)
    except FenceRefused:
        return None
    except keyring.BrokenSeal:
        log.exception("bmc_password_sealed_for_ever", host=str(host.pk))
        return None


def _alarm(pool: Pool, judgement: Judgement, hosts: int) -> None:
    tag = f"half-of-pool-silent:{pool.pk}"
    if not judgement.ourselves:
        close_alarm(tag)
        return
    open_alarm(
        tag,
        severity=Severity.CRITICAL,
        title=f"{len(judgement.doubted)} of {hosts} hosts of {pool} are silent at once",
        detail="Likelier our own network than so many machines: no host is suspected, none fenced.",
    )


def _dump(memory: Memory) -> dict[str, object]:
    return {
        "at": memory.at.isoformat(),
        "silences": {
            str(host): {signal.value: at.isoformat() for signal, at in since.items()}
            for host, since in memory.silences.items()
        },
    }


def _load(kept: object) -> Memory | None:
    """What an earlier version remembered otherwise is forgotten."""
    try:
        return _parse(kept) if isinstance(kept, dict) else None
    except (KeyError, ValueError, AttributeError):
        return None


def _parse(kept: dict[str, object]) -> Memory:
    silences = kept["silences"]
    assert isinstance(silences, dict)
    return Memory(
        datetime.fromisoformat(str(kept["at"])),
        {UUID(host): _silences(since.items()) for host, since in silences.items()},
    )


def _silences(since: Iterable[tuple[str, str]]) -> dict[Signal, datetime]:
    return {Signal(signal): datetime.fromisoformat(at) for signal, at in since}
