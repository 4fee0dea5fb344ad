"""Which hosts may be dead: a pure decision over what several signals say, sweep after sweep. Stdlib only.

A host is suspected when at least two signals are silent without a break for a set time. When half of a
pool falls silent at once it is likelier that our own eyes failed: then nothing is suspected but ourselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class Signal(StrEnum):
    """Ways to hear of a host that fail for different reasons.

    Heartbeat: what its pool's master says of it. Api: whether it answers us. Power: what its BMC says.
    """

    HEARTBEAT = "heartbeat"
    API = "api"
    POWER = "power"


class Reading(StrEnum):
    """Unknown: this signal tells nothing now, neither for nor against the host."""

    ALIVE = "alive"
    SILENT = "silent"
    UNKNOWN = "unknown"


Readings = Mapping[UUID, Mapping[Signal, Reading]]
Silences = Mapping[UUID, Mapping[Signal, datetime]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`longest_gap`: after a longer pause between two sweeps nothing is known of the time between."""

    signals: int = 2
    silence: timedelta = timedelta(seconds=60)
    longest_gap: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one sweep leaves for the next: when it was, and since when each signal is silent."""

    at: datetime
    silences: Silences = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`suspects`: hosts that may be dead, each with the signals that say so.

    `doubted`: whatever is silent at all, for people. `ourselves`: the fault is likelier ours, and so
    nobody is a suspect.
    """

    memory: Memory
    suspects: Mapping[UUID, frozenset[Signal]]
    doubted: Mapping[UUID, frozenset[Signal]]
    ourselves: bool


def judge(readings: Readings, memory: Memory | None, now: datetime, rule: Rule) -> Judgement:
    """`readings` has every host of one pool that is meant to run, and no other."""
    silent = {
        host: signals
        for host, said in readings.items()
        if (signals := frozenset(s for s, reading in said.items() if reading is Reading.SILENT))
    }
    if _doubts_itself(len(silent), len(readings)):
        # What such eyes saw does not count later either: silences begin anew.
        return Judgement(Memory(now), {}, silent, ourselves=True)
    silences = _lengthen(silent, _still_known(memory, now, rule), now)
    suspects = {
        host: signals
        for host in silent
        if _may_be_dead(readings[host], signals := _long_silent(silences[host], now, rule), rule)
    }
    return Judgement(Memory(now, silences), suspects, silent, ourselves=False)


def _doubts_itself(silent: int, hosts: int) -> bool:
    return silent == hosts > 0 or (silent >= 2 and silent * 2 >= hosts)


def _still_known(memory: Memory | None, now: datetime, rule: Rule) -> Silences:
    if memory is None or not timedelta(0) <= now - memory.at <= rule.longest_gap:
        return {}
    return memory.silences


def _lengthen(
    silent: Mapping[UUID, frozenset[Signal]], known: Silences, now: datetime
) -> dict[UUID, dict[Signal, datetime]]:
    return {
        host: {signal: known.get(host, {}).get(signal, now) for signal in signals}
        for host, signals in silent.items()
    }


def _long_silent(since: Mapping[Signal, datetime], now: datetime, rule: Rule) -> frozenset[Signal]:
    return frozenset(signal for signal, at in since.items() if now - at >= rule.silence)


def _may_be_dead(said: Mapping[Signal, Reading], silent: frozenset[Signal], rule: Rule) -> bool:
    """One that answers us is alive, whatever others say: perhaps they speak of another machine."""
    return len(silent) >= rule.signals and said.get(Signal.API) is not Reading.ALIVE
