"""A demonstration on emulated hosts that run Xen, and how its containers are reached from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.processes import LAB_POOL
from deploy.demo.tests.estate import Estate, estate_of
from deploy.demo.tests.on_xen.probe import CONFIGURATIONS, make_probe, make_python
from deploy.demo.tests.running import demonstration
from deploy.demo.tests.visitor import Vm, wait_until
from deploy.demo.ways import port_of
from deploy.lab.registry.debian_images import make, push, what_is_missing
from deploy.xenlab import needs
from deploy.xenlab.__main__ import GUEST_BOOT, ROOT
from deploy.xenlab.client import Agent
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.lab import XenLab
from deploy.xenlab.machine import Machine
from deploy.xenlab.namespace import inside
from deploy.xenlab.plan import LabPlan, plan

MIB = 2**20
SMALL = {"memory_bytes": 128 * MIB, "disk_bytes": 128 * MIB}
# Seconds. Emulated hosts beside other work are slow, and nothing here is a measurement.
STARTS = 600.0
ANSWERS = 20.0
PATIENCE = 10.0
"""Of the poller: emulated hosts that copy memory take seconds for an answer, which is slow and no failure."""


@dataclass(frozen=True)
class Nic:
    """A container's interface: its MAC address, and the VLAN that it is on."""

    mac: str
    tag: int


@dataclass
class Site:
    """`registry` is another one than the demonstration's own: images are pushed there."""

    estate: Estate
    lab: XenLab
    registry: str

    @property
    def plan(self) -> LabPlan:
        return self.lab.plan

    # ------------------------------------------------------------------------------------- containers

    def image(self, slug: str, reference: str) -> str:
        """The uuid of "nginx:latest", which was pushed to the registry, in that tenant's own catalogue."""
        owner, name = self.estate.owners[slug], reference.replace(":", "-")

        def found() -> Any:
            images = owner.all(f"tenants/{slug}/images")
            return next((one for one in images if one["name"] == name), None)

        if found() is None:
            body = {"name": name, "reference": f"{self.registry}/{reference}"}
            owner.post(f"tenants/{slug}/images", body)
        wait_until(lambda: found()["digest"] is not None, f"{name} is imported", seconds=STARTS)
        return str(found()["uuid"])

    def deploy(self, slug: str, name: str, reference: str, **wishes: Any) -> str:
        """The uuid of a container that is on its way."""
        body = {"name": name, "image": self.image(slug, reference), **SMALL, **wishes}
        self.estate.owners[slug].post(f"tenants/{slug}/containers", body)
        return str(self.named(slug, name)["uuid"])

    def named(self, slug: str, name: str) -> Any:
        containers = self.estate.owners[slug].all(f"tenants/{slug}/containers")
        return next(one for one in containers if one["name"] == name)

    def seen(self, slug: str, container: str) -> Any:
        return self.estate.owners[slug].get(f"tenants/{slug}/containers/{container}")

    def do(self, slug: str, container: str, what: str) -> None:
        """ "stop", "start", "restart"."""
        self.estate.owners[slug].post(f"tenants/{slug}/containers/{container}/{what}")

    def until(self, slug: str, container: str, *statuses: str, seconds: float = STARTS) -> Any:
        """As it is seen once it has one of these and nothing is done with it."""
        last: dict[str, Any] = {}

        def is_so() -> bool:
            last.update(self.seen(slug, container))
            return last["status"] in statuses and last["operation"] is None

        try:
            wait_until(is_so, f"{container} is {' or '.join(statuses)}", seconds=seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; it is {last}\n{self.output(slug, container)}") from late
        return last

    def remove(self, slug: str, *containers: str) -> None:
        """… and wait until they are gone: their memory is wanted."""
        owner = self.estate.owners[slug]
        for container in containers:
            owner.delete(f"tenants/{slug}/containers/{container}")

        def is_gone() -> bool:
            left = {one["uuid"] for one in owner.all(f"tenants/{slug}/containers")}
            return not left.intersection(containers)

        wait_until(is_gone, "they are gone", seconds=STARTS)

    def output(self, slug: str, container: str) -> list[tuple[str, str]]:
        """Stream and text of each line."""
        path = f"tenants/{slug}/containers/{container}/output?limit=500"
        lines = self.estate.owners[slug].get(path)["lines"]
        return [(line["stream"], line["text"]) for line in lines]

    def says(self, slug: str, container: str, text: str, *, seconds: float = STARTS) -> None:
        """Wait until it has written that line."""
        wait_until(
            lambda: any(text == line for _, line in self.output(slug, container)),
            f"{container} says {text!r}",
            seconds=seconds,
        )

    def keep_blanks(self, count: int) -> set[str]:
        """So many VMs of the size of SMALL, booted and paused, on each host that takes any; which they are."""
        memory, disk = (f"{SMALL[name] // MIB}MiB" for name in ("memory_bytes", "disk_bytes"))
        words = ("set_warm", LAB_POOL, "--memory", memory, "--disk", disk, "--count", str(count))
        subprocess.run(
            [
                sys.executable,
                "-m",
                "deploy.demo",
                "--folder",
                self.estate.demo.folder,
                "manage",
                *words,
            ],
            cwd=ROOT,
            check=True,
            timeout=60,
        )
        hosts = sum(1 for host in self.estate.hosts().values() if host["state"] == "accepting")
        found: set[str] = set()

        def are_ready() -> bool:
            found.clear()
            for there in self.domains().values():
                found.update(uuid for uuid, state in there.items() if state == "paused")
            return len(found) == count * hosts and not self._is_about_blanks()

        wait_until(are_ready, f"{count} blanks are ready on {hosts} hosts", seconds=STARTS)
        return found

    def _is_about_blanks(self) -> bool:
        """Is one being made, or unmade?"""
        operations = self.estate.operator.all("operations?limit=200")
        return any(one["kind"].startswith("blank.") and not one["ended_at"] for one in operations)

    # ---------------------------------------------------------------------------------------- from outside

    def http(
        self, ip: str, path: str = "/", data: bytes | None = None, *, seconds: float = ANSWERS
    ) -> bytes:
        """What its port 80 answers through the way that the demonstration opened. Raises OSError."""
        request = urllib.request.Request(f"http://127.0.0.1:{port_of(ip)}{path}", data)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            body: bytes = answer.read()
            return body

    def answers(self, ip: str, path: str = "/") -> None:
        """Wait until it answers with 200."""

        def does() -> bool:
            try:
                self.http(ip, path)
            except OSError:
                return False
            return True

        wait_until(does, f"{ip} answers", seconds=STARTS)

    def sh(self, ip: str, script: str) -> list[str]:
        """What a script says that runs inside of a container of "probe:server"; "exit=N" comes last."""
        return self.http(ip, "/cgi-bin/sh", script.encode()).decode().splitlines()

    @contextmanager
    def on_their_networks(self) -> Iterator[None]:
        """This thread's new connections begin where tenants' networks are routed."""
        with inside(self.plan.namespace):
            yield

    # --------------------------------------------------------------------------------------------- hosts

    def domains(self) -> dict[str, dict[str, str]]:
        """Host → uuid → state of each domain, as every dom0 that answers says."""
        found = {}
        for machine in self.lab.machines:
            try:
                with Agent(self.plan, machine.host, timeout=ANSWERS) as agent:
                    known = agent.call("hello")["domains"]
            except XenlabError:
                continue
            found[machine.host.name] = {one["uuid"]: one["state"] for one in known}
        return found

    def machine_of(self, container: str) -> Machine:
        """Where its VM runs, as that host's dom0 says."""
        vm = self.vm_of(container).uuid
        name = next(name for name, there in self.domains().items() if vm in there)
        return next(machine for machine in self.lab.machines if machine.host.name == name)

    def host_of(self, container: str) -> Any:
        """The host of its VM, as operators see it."""
        return self.estate.hosts()[self.vm_of(container).host]

    def vm_of(self, container: str) -> Vm:
        """The one VM that a container has."""
        operator = self.estate.operator
        (instance,) = (
            one["uuid"]
            for host in self.estate.hosts().values()
            for one in operator.all(f"hosts/{host['uuid']}/instances")
            if one["container"] == container
        )
        (vm,) = (vm for vm in self.estate.vms().values() if vm.name == f"instance-{instance}")
        return vm

    def nic_of(self, container: str) -> Nic:
        vifs, networks, pifs, vms = self.estate.pool.records("VIF", "network", "PIF", "VM")
        own = self.vm_of(container).uuid
        (vif,) = (vif for vif in vifs.values() if vms.get(vif["VM"], {}).get("uuid") == own)
        tags = {int(pifs[pif]["VLAN"]) for pif in networks[vif["network"]]["PIFs"]}
        (tag,) = tags
        return Nic(vif["MAC"], tag)


def kill_qemu(machine: Machine) -> None:
    """As a power supply that burns through: nobody is told."""
    os.kill(int(machine.host.pid_file.read_text()), signal.SIGKILL)


def obstacles() -> list[str]:
    """Why this cannot run here."""
    missing = [*needs.obstacles(), *filter(None, [what_is_missing()])]
    if not shutil.which("docker-registry"):
        missing.append("docker-registry is not installed (apt-get install docker-registry)")
    return missing


def push_images(registry: str, folder: Path) -> None:
    """Debian's nginx and postgres, every configuration of the probe, and a Python run by root."""
    for name in ("nginx", "postgres"):
        push(make(name), f"{registry}/{name}:latest")
    probe = make_probe(folder)
    for tag in CONFIGURATIONS:
        push(probe, f"{registry}/probe:{tag}", tag=tag)
    push(make_python(folder), f"{registry}/python:root", tag="root")


@contextmanager
def site(registry: str, environment: Mapping[str, str]) -> Iterator[Site]:
    """Two hosts with the guest that `make guest` makes, and the demonstration on them."""
    subprocess.run([sys.executable, "-m", "deploy.guest"], cwd=ROOT, check=True, timeout=600)
    state = Path(os.environ.get("XENLAB_STATE", ROOT / ".xenlab"))
    lab = XenLab(plan(state, name=f"site-{os.getpid()}"))
    lab.build(GUEST_BOOT)
    try:
        lab.up()
        xen = ("--xen", str(state), "--xen-name", lab.plan.name)
        with demonstration(*xen, IMAGE_PLAIN_HTTP_REGISTRIES=registry, **environment) as demo:
            demo.until("Ctrl-C stops everything", seconds=600)
            yield Site(estate_of(demo), lab, registry)
    finally:
        lab.down()


class Poller:
    """Asks a page over and over until the block ends: `answered`, `failed`, and seconds of the `longest_gap`."""

    def __init__(self, site: Site, ip: str) -> None:
        self.answered = self.failed = 0
        self.longest_gap = 0.0
        self._site, self._ip = site, ip
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="poller")

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(2 * ANSWERS)

    def until_answered(self) -> None:
        """Wait for one more answer: a gap counts to its end."""
        before = self.answered
        wait_until(lambda: self.answered > before, f"{self._ip} answers again", seconds=STARTS)

    def _ask(self) -> None:
        last = time.monotonic()
        while not self._ends.wait(0.05):
            try:
                self._site.http(self._ip, seconds=PATIENCE)
            except OSError:
                self.failed += 1
                continue
            now = time.monotonic()
            self.answered += 1
            self.longest_gap = max(self.longest_gap, now - last)
            last = now
