"""One suite for every fence: the fake, and the lab's controllers over HTTPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from deploy.lab.testing import RunningLab, running_lab
from worker.fencing.fake import FakeFence, Fault
from worker.fencing.port import Fence
from worker.fencing.redfish import Account, Patience, Redfish
from worker.hypervisor.xapi import read_certificate

# The lab's clock runs fifty times as fast: a machine is off 40 ms after it was told so.
QUICK = Patience(per_exchange=0.5, per_call=2.0, between_readings=0.01)


@dataclass
class Bench:
    """A fence under test, and the machine behind it."""

    fence: Fence
    is_powered: Callable[[], bool]
    set_fault: Callable[[Fault | None], None]


@pytest.fixture(scope="session")
def bmc_lab() -> Iterator[RunningLab]:
    with running_lab(2, sides=True, rate=50.0) as lab:
        yield lab


def account_of(lab: RunningLab, host: str, **given: str) -> Account:
    url = lab.bmc_url(host)
    config = lab.lab.config
    fields = {
        "url": url,
        "username": config.bmc_username,
        "password": config.bmc_password,
        "certificate": read_certificate(url).pem,
    }
    return Account(**{**fields, **given})


@pytest.fixture(params=["fake", "redfish"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "fake":
        fake = FakeFence()
        yield Bench(fake, lambda: fake.powered, lambda fault: setattr(fake, "fault", fault))
        return
    lab: RunningLab = request.getfixturevalue("bmc_lab")
    machine = lab.lab.machine("h2")

    def set_fault(fault: Fault | None) -> None:
        lab.do(lambda _lab: setattr(machine, "bmc_fault", fault))

    yield Bench(Redfish(account_of(lab, "h2"), patience=QUICK), lambda: machine.powered, set_fault)
    set_fault(None)
    lab.do(lambda _lab: machine.power_on())
