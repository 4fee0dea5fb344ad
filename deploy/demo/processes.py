"""What runs in a demonstration: the processes of docs/architecture.md, each once."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploy.demo import ours
from deploy.demo.place import ROOT
from deploy.demo.supervisor import Child
from deploy.local.service import Service
from deploy.xenlab.plan import LabPlan

LAB_POOL = "lab"
LAB_HOSTS = 4
LAB_COORDINATOR = "127.0.64.1"
# Of the lab's hosts; eth0 is for management.
LAB_NETWORK_DEVICE = "eth1"
# An emulated host has one interface, for everything.
XEN_DEVICE = "eth0"
# Where an emulated host has what boots guests (deploy/xenlab/image.py).
XEN_KERNEL, XEN_RAMDISK = "/boot/guest/vmlinux", "/boot/guest/initramfs"
WEB_ADDRESS = "127.0.0.1"
# The device at which a VM of ours has the disk that says what it runs (worker/machines.py).
CONFIG_DISK = 1
# Stages: what stands on something else is stopped before it.
_SERVERS, _LAB, _OURS = 0, 1, 2
_SIMULATED = ("--config-disk", str(CONFIG_DISK), "--sample-guests")


def server(service: Service) -> Child:
    """PostgreSQL or Redis out of a wheel."""
    return Child(
        name=service.name,
        argv=service.argv(),
        account=service.account,
        stop_signal=service.stop_signal,
        death_signal=service.death_signal,
        stage=_SERVERS,
        quiet=True,
    )


def preparation(service: Service) -> Child:
    """What the service needs on disk is made; ends by itself."""
    return Child(name=service.name, run=service.prepare, stage=_SERVERS)


def lab(
    *,
    port: int,
    control_port: int,
    bmc_port: int,
    state: str,
    info: str,
    password_file: str,
    xen: LabPlan | None = None,
) -> Child:
    """The pool of hosts, simulated ones unless `xen` are emulated machines.

    It prints a line that starts with "ready" when it serves.
    """
    hosts = LAB_HOSTS if xen is None else len(xen.hosts)
    return Child(
        name="lab",
        argv=[
            *(sys.executable, "-u", "-m", "deploy.lab", "--hosts", str(hosts)),
            *("--port", str(port), "--control-port", str(control_port)),
            # The same at each start: controllers that were set for hosts have to stay good.
            *("--bmc-port", str(bmc_port)),
            *("--state", state, "--info", info, "--password-file", password_file),
            *(_SIMULATED if xen is None else _on(xen)),
        ],
        cwd=str(ROOT),
        stage=_LAB,
        quiet=True,
    )


def _on(xen: LabPlan) -> tuple[str, ...]:
    return ("--backend", "xl", "--xenlab", str(xen.state), "--xenlab-name", xen.name)


def registry(*, port: int, real: bool = False) -> Child:
    """The OCI registry with the lab's two images; `real` ones hold programs of Debian's instead."""
    images = ("--debian", "nginx", "--debian", "redis") if real else ()
    return Child(
        name="registry",
        argv=[sys.executable, "-u", "-m", "deploy.lab.registry", "--port", str(port), *images],
        cwd=str(ROOT),
        stage=_LAB,
        quiet=True,
    )


def ways(xen: LabPlan) -> Child:
    """From this machine to what containers serve on their tenants' networks."""
    return _ours("ways", partial(ours.ways, xen))


def web(listener: int) -> Child:
    return _ours("web", partial(ours.web, listener), inherits=(listener,))


def of_the_pool(pool: str) -> list[Child]:
    """Its follower, and the relay of its consoles."""
    return [
        _ours("follower", partial(ours.command, "follow", pool)),
        _ours("relay", partial(ours.command, "relay", pool)),
    ]


def workers(schedule: Path) -> list[Child]:
    """A worker per queue, and the clock."""
    return [
        _ours("tenant", partial(ours.worker, "tenant", 2)),
        # Dispatch goes on while hosts that hang are asked.
        _ours("recovery", partial(ours.worker, "recovery", 2)),
        _ours("images", partial(ours.worker, "images", 1)),
        _ours("beat", partial(ours.beat, str(schedule))),
    ]


def step(name: str, run: Callable[[], None]) -> Child:
    """Something of ours that ends by itself."""
    return Child(name=name, run=run, cwd=str(ROOT), stage=_OURS)


def _ours(name: str, run: Callable[[], None], inherits: tuple[int, ...] = ()) -> Child:
    return Child(name=name, run=run, cwd=str(ROOT), stage=_OURS, inherits=inherits, announced=True)
