"""Each host carries out the work on its domains with four workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
