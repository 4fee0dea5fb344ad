"""What a host and its domains used so far, from the hypervisor and the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from deploy.xenlab.agent import links, nbd
from deploy.xenlab.agent.domains import Domain
from deploy.xenlab.agent.hypervisor import Hypervisor
from deploy.xenlab.agent.spec import Devices


def measured(
    hypervisor: Hypervisor, domains: Iterable[tuple[Domain, Devices | None]]
) -> dict[str, Any]:
    """Counters since start. An interface's `rx` is what dom0 took in, hence what the guest sent."""
    host = hypervisor.host()
    running = {one.uuid: one for one in hypervisor.domains()}
    disks = {one.export.vdi: one.device for one in nbd.attached()}
    return {
        "at": time.time(),
        "host": {
            "cpus": host.cpus,
            "memory_total": host.memory_total,
            "memory_free": host.memory_free,
            "dom0_cpu_ns": hypervisor.dom0_cpu_ns(),
            "load": os.getloadavg()[0],
            "trunk": links.counters(links.TRUNK),
        },
        "domains": [
            {
                "uuid": domain.uuid,
                "cpu_ns": running[domain.uuid].cpu_ns,
                "memory": running[domain.uuid].memory_bytes,
                "vcpus": running[domain.uuid].vcpus,
                "vifs": [
                    {"device": v.device, **links.counters(f"vif{domain.domid}.{v.device}")}
                    for v in (devices.vifs if devices else ())
                ],
                "vbds": [
                    {"device": d.device, "vdi": d.vdi, **nbd.counters(disks[d.vdi])}
                    for d in (devices.disks if devices else ())
                    if d.vdi in disks
                ],
            }
            for domain, devices in domains
            if domain.uuid in running
        ],
    }
