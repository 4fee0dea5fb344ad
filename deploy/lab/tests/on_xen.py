"""A lab whose hosts run Xen, with the small guest of `deploy.xenlab.tests`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.xl.backend import XlBackend
from deploy.lab.xl.boot import Boot
from deploy.lab.xl.hardware import EmulatedHardware
from deploy.lab.xl.options import CONTROL_DOMAIN, HYPERVISOR
from deploy.xenlab.lab import XenLab


def lab_on(xen_lab: XenLab, *, tls: bool) -> AbstractContextManager[RunningLab]:
    """It is gone when the block ends; the hosts stay."""
    hardware = EmulatedHardware(xen_lab.plan)
    boot = Boot(arguments="console=hvc0 panic=1 address=10.77.0.90")
    return running_lab(
        hosts=len(xen_lab.machines),
        tls=tls,
        preset="small",
        backend=partial(XlBackend, hardware=hardware, boot=boot),
        memory_per_host=hardware.memory(),
        control_domain_memory=CONTROL_DOMAIN,
        hypervisor_memory=HYPERVISOR,
    )
