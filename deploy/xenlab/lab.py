"""A lab as a whole: up, down, status, saved."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deploy.alone import alone
from deploy.xenlab import namespace, needs
from deploy.xenlab.client import Agent
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.image import NOTHING, Extra, Image
from deploy.xenlab.machine import Machine
from deploy.xenlab.plan import LabPlan

# Seconds; an idle machine takes a tenth.
BOOT = 180.0


class XenLab:
    """The machines of a plan."""

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        self.machines = [Machine(plan, host) for host in plan.hosts]

    def build(self, boot: Path | None = None, extra: Extra = NOTHING) -> bool:
        """Makes the image when needed; says whether it did. Labs of one folder wait for each other."""
        needs.check()
        with alone(self.plan.image.parent / "lock"):
            return Image(self.plan.image, extra).build(boot)

    def up(self, *, saved: bool = True) -> None:
        """Starts every host that is off and waits until its agent answers.

        `saved` starts hosts from saved states where these fit. A host that does not come up raises
        XenlabError `host_not_up` with the end of its serial log.
        """
        needs.check()
        if not Image(self.plan.image).stamp:
            raise XenlabError("not_built", "the hosts' image is not built")
        namespace.raise_network(self.plan)
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(lambda machine: _start(machine, saved), self.machines))

    def save(self) -> None:
        """Keeps the state of every host, so that `up` takes seconds; the hosts run on from it."""
        with alone(self.plan.image.parent / "lock"):
            for machine in self.machines:
                machine.save()
        self.up()

    def down(self) -> None:
        """Leaves nothing: no process, no device, no file but the image and its states."""
        if namespace.path_of(self.plan.namespace).exists():
            for machine in self.machines:
                machine.power_off()
            namespace.lower_network(self.plan)
        shutil.rmtree(self.plan.folder, ignore_errors=True)

    def status(self) -> list[dict[str, Any]]:
        """Of every host: name, address, whether it is on, what its agent says."""
        return [self._status_of(machine) for machine in self.machines]

    def _status_of(self, machine: Machine) -> dict[str, Any]:
        host = machine.host
        known: dict[str, Any] = {"name": host.name, "address": host.address, "on": machine.is_on()}
        if known["on"]:
            try:
                with Agent(self.plan, host, timeout=5) as agent:
                    known["agent"] = agent.call("hello")
            except XenlabError as error:
                known["agent"] = str(error)
        return known


def _start(machine: Machine, saved: bool) -> None:
    if not machine.is_on():
        if saved and machine.has_saved_state():
            machine.resume()
        else:
            machine.power_on(fresh=True)
    await_agent(machine)


def await_agent(machine: Machine, *, timeout: float = BOOT) -> dict[str, Any]:
    """What a host's agent says of itself, once it answers; `timeout` in seconds."""
    until = time.monotonic() + timeout
    while True:
        try:
            with Agent(machine.plan, machine.host, timeout=10) as agent:
                known: dict[str, Any] = agent.call("hello")
                return known
        except XenlabError as error:
            if time.monotonic() > until or not machine.is_on():
                why = "is off" if not machine.is_on() else f"does not answer ({error})"
                raise XenlabError(
                    "host_not_up",
                    f"{machine.host.name} {why}. Its serial port said last:\n"
                    f"{machine.serial_tail()}",
                ) from error
        time.sleep(0.1)
