"""Who is suspected, by tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.liveness.judge import Judgement, Memory, Reading, Rule, Signal, judge

RULE = Rule()
START = datetime(2030, 1, 1, tzinfo=UTC)
HOSTS = [UUID(int=n) for n in range(8)]
_READINGS = {"+": Reading.ALIVE, "-": Reading.SILENT, "?": Reading.UNKNOWN}


def said(signs: str) -> dict[Signal, Reading]:
    """Heartbeat, API and power by sign, e.g. "+-?"."""
    return {signal: _READINGS[sign] for signal, sign in zip(Signal, signs, strict=True)}


def watch(*sweeps: str, every: float = 10.0, hosts: int = 5) -> Judgement:
    """Sweep after sweep: each gives the readings of the first hosts, parted by blanks; the rest is well."""
    memory = None
    for number, sweep in enumerate(sweeps):
        told = [*sweep.split(), *["++?"] * hosts][:hosts]
        readings = {HOSTS[n]: said(signs) for n, signs in enumerate(told)}
        verdict = judge(readings, memory, START + timedelta(seconds=every * number), RULE)
        memory = verdict.memory
    return verdict


CASES = [
    ("all is well", ["++?"] * 8, []),
    ("two signals silent for a minute", ["--?"] * 7, [0]),
    ("… and not a moment sooner", ["--?"] * 6, []),
    ("power gone and no answer", ["+--"] * 7, [0]),
    ("all three", ["---"] * 7, [0]),
    ("one signal alone, however long", ["+-?"] * 50, []),
    ("the master alone says so", ["-+?"] * 50, []),
    ("a BMC alone says so", ["?+-"] * 50, []),
    ("two say so, but it answers us: perhaps another's BMC", ["-+-"] * 50, []),
    ("one signal joined the other late", ["+-?"] * 9 + ["+--"] * 2, []),
    ("an answer in between begins the minute anew", ["--?"] * 6 + ["++?"] + ["--?"] * 6, []),
    ("an unknown in between does too", ["--?"] * 6 + ["-??"] + ["--?"] * 6, []),
    ("two of five at different times", ["--? +-?"] * 7, [0]),
    ("a suspect that answers again is none", ["--?"] * 7 + ["++?"], []),
]


@pytest.mark.parametrize(("sweeps", "suspects"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_who_is_suspected(sweeps: list[str], suspects: list[int]) -> None:
    verdict = watch(*sweeps)
    assert list(verdict.suspects) == [HOSTS[n] for n in suspects]
    assert not verdict.ourselves


SILENT = "--?"
CROWDS = [
    (1, 1, True),
    (1, 2, False),
    (2, 2, True),
    (1, 3, False),
    (2, 3, True),
    (2, 4, True),
    (2, 5, False),
    (3, 6, True),
    (0, 3, False),
    (0, 0, False),
]


@pytest.mark.parametrize(("silent", "hosts", "ourselves"), CROWDS)
def test_half_of_the_pool_silent_at_once_makes_us_suspect_ourselves(
    silent: int, hosts: int, ourselves: bool
) -> None:
    verdict = watch(*[" ".join([SILENT] * silent)] * 8, hosts=hosts)
    assert verdict.ourselves is ourselves
    assert len(verdict.suspects) == (0 if ourselves else silent)
    assert len(verdict.doubted) == silent


def test_what_we_saw_while_we_doubted_ourselves_does_not_count_later() -> None:
    verdict = watch(*["--? --? --?"] * 20, "--?", hosts=5)
    assert not verdict.suspects
    assert not watch(*["--? --? --?"] * 20, *["--?"] * 6).suspects
    assert watch(*["--? --? --?"] * 20, *["--?"] * 7).suspects


def test_nothing_is_known_of_a_long_pause_between_two_sweeps() -> None:
    assert not watch("--?", "--?", every=31).suspects
    assert watch(*["--?"] * 3, every=30).suspects


def test_a_clock_that_was_set_back_begins_anew() -> None:
    later = Memory(START + timedelta(hours=1), {HOSTS[0]: dict.fromkeys(Signal, START)})
    readings = {host: said("++?") for host in HOSTS} | {HOSTS[0]: said("---")}
    assert not judge(readings, later, START, RULE).suspects


def test_what_was_remembered_of_hosts_that_left_is_dropped() -> None:
    memory = Memory(START, {HOSTS[7]: {Signal.API: START}})
    verdict = judge({HOSTS[0]: said("++?"), HOSTS[1]: said("++?")}, memory, START, RULE)
    assert verdict.memory.silences == {}


signs = st.text("+-?", min_size=3, max_size=3)
stories = st.lists(st.lists(signs, min_size=4, max_size=4), min_size=1, max_size=20)


@given(stories)
def test_whatever_happens_no_host_that_answers_is_suspected(story: list[list[str]]) -> None:
    verdict = watch(*[" ".join(sweep) for sweep in story], hosts=4)
    for host in verdict.suspects:
        last = said(story[-1][HOSTS.index(host)])
        assert last[Signal.API] is not Reading.ALIVE
        assert list(last.values()).count(Reading.SILENT) >= RULE.signals
    assert len(verdict.suspects) * 2 < 4
