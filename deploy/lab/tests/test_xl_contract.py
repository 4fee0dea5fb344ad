"""The driver's contract holds on a pool whose hosts run Xen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deploy.lab.tests.on_xen import lab_on
from deploy.xenlab.__main__ import ROOT
from deploy.xenlab.lab import XenLab
from deploy.xenlab.tests.conftest import xen_lab
from worker.hypervisor.xapi.enrol import fingerprint

__all__ = ["xen_lab"]

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1800)]

SOON = "240"
"""Seconds that one thing may take on a machine that emulates Xen beside other work."""
LIMIT = 1700.0
"""Seconds for all of it; a minute on an idle machine."""


def test_the_driver_keeps_its_contract_on_emulated_hosts(xen_lab: XenLab) -> None:
    with lab_on(xen_lab, tls=True) as lab:
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
