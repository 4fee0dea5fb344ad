"""Real hosts for the tests that need them; made once a run, from saved states where these fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.xenlab import needs
from deploy.xenlab.__main__ import ROOT
from deploy.xenlab.lab import XenLab
from deploy.xenlab.plan import plan
from deploy.xenlab.tests.guest import make_boot_files


@pytest.fixture(scope="session")
def xen_lab() -> Iterator[XenLab]:
    """Two hosts that are up, with the test guest in /boot/guest."""
    if reasons := needs.obstacles():
        pytest.skip("; ".join(reasons))
    state = Path(os.environ.get("XENLAB_STATE", ROOT / ".xenlab"))
    boot = state / "test-boot"
    make_boot_files(boot, state / "cache")
    lab = XenLab(plan(state, name=f"test-{os.getpid()}", image=state / "test-image"))
    lab.build(boot)
    try:
        lab.up()
        if not all(machine.has_saved_state() for machine in lab.machines):
            lab.save()
        yield lab
    finally:
        lab.down()
