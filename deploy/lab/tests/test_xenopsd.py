"""Each host carries out the work on its domains with four workers, one thing at a time per VM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from deploy.lab.lab import Lab
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, vms_of
from deploy.lab.xenopsd import WORKERS, Durations

START = 10.0


@pytest.fixture
def vms() -> Iterator[Vms]:
    slow = Durations(start=START)
    with running_lab(2, tls=False, rate=0.0, durations=slow) as lab, vms_of(lab) as vms:
        yield vms


def running(vms: Vms) -> int:
    records = vms.api.VM.get_all_records().values()
    return sum(r["power_state"] == "Running" and not r["is_control_domain"] for r in records)


def test_four_domains_are_built_at_a_time(vms: Vms) -> None:
    assert WORKERS == 4
    for _ in range(6):
        vms.api.Async.VM.start_on(vms.vm(), vms.hosts["h2"], False, False)
    counts = []
    for _ in range(2):
        vms.lab.clock.advance(START + 0.5)
        counts.append(running(vms))
    assert counts == [4, 6]


def test_each_host_has_four_of_its_own(vms: Vms) -> None:
    for number in range(8):
        host = vms.hosts[f"h{1 + number % 2}"]
        vms.api.Async.VM.start_on(vms.vm(), host, False, False)
    vms.lab.clock.advance(START + 0.5)
    assert running(vms) == 8


def test_who_comes_when_a_turn_ends_waits_behind_who_was_woken_by_that(vms: Vms) -> None:
    had: list[str] = []

    async def take_turns(lab: Lab) -> None:
        xenopsd = lab.machine("h2").xenopsd

        async def work(name: str) -> None:
            async with xenopsd.turn("vm"):
                had.append(name)
                await asyncio.sleep(0)
                had.append(name)

        async def work_and_see_another_come() -> asyncio.Task[None]:
            async with xenopsd.turn("vm"):
                for _ in range(3):  # the second has come and waits
                    await asyncio.sleep(0)
            return asyncio.ensure_future(work("third"))

        first = asyncio.ensure_future(work_and_see_another_come())
        await asyncio.sleep(0)
        await asyncio.gather(work("second"), first)
        await first.result()

    vms.lab.wait(take_turns(vms.lab.lab))
    assert had == ["second", "second", "third", "third"]
