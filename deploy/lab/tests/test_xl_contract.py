"""The driver's contract holds on a pool whose hosts run Xen."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.xl.backend import XlBackend
from deploy.lab.xl.boot import Boot
from deploy.lab.xl.hardware import EmulatedHardware
from deploy.lab.xl.options import CONTROL_DOMAIN, HYPERVISOR
from deploy.xenlab.__main__ import ROOT
from deploy.xenlab.lab import XenLab
from deploy.xenlab.tests.conftest import xen_lab
from worker.hypervisor.xapi.enrol import fingerprint

__all__ = ["xen_lab"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SOON = "240"
"""Seconds that one thing may take on a machine that emulates Xen beside other work."""
LIMIT = 1700.0
"""Seconds for all of it; a minute on an idle machine."""


def test_the_driver_keeps_its_contract_on_emulated_hosts(xen_lab: XenLab) -> None:
    hardware = EmulatedHardware(xen_lab.plan)
    boot = Boot(arguments="console=hvc0 panic=1 address=10.77.0.90")
    with running_lab(
        hosts=len(xen_lab.machines),
        preset="small",
        backend=partial(XlBackend, hardware=hardware, boot=boot),
        memory_per_host=hardware.memory(),
        control_domain_memory=CONTROL_DOMAIN,
        hypervisor_memory=HYPERVISOR,
    ) as lab:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-o", "timeout=900"),
                *("-k", "real", "worker/tests/contract"),
            ],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env={
                **os.environ,
                "XAPI_URL": lab.url,
                "XAPI_USERNAME": lab.username,
                "XAPI_PASSWORD": lab.password,
                "XAPI_FINGERPRINT": fingerprint(lab.certificates[0]),
                "XAPI_SOON": SOON,
            },
        )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout
