"""The machines below the hosts: their power, and how to reach them."""

from __future__ import annotations

import socket as sockets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.xenlab.lab import await_agent
from deploy.xenlab.machine import Machine
from deploy.xenlab.namespace import inside
from deploy.xenlab.plan import AGENT_PORT, GATEWAY, LabPlan, plan

NBD_PORT = 10809


@dataclass(frozen=True)
class Place:
    """Where something listens."""

    address: str
    port: int


class Hardware(Protocol):
    """Hosts are numbered from 1, as in their names: h1, h2 …"""

    @property
    def hosts(self) -> int: ...

    def agent(self, number: int) -> Place:
        """Where a host's agent listens; its other connections come from the same address."""

    def socket(self) -> sockets.socket:
        """An unconnected TCP socket in the hosts' network."""

    def listen(self) -> tuple[sockets.socket, Place]:
        """A socket that listens for the hosts, and where they find it."""

    def cut_power(self, number: int) -> None:
        """Blocks until the machine is off for certain."""

    def give_power(self, number: int) -> None:
        """Blocks until the machine has booted."""

    def is_on(self, number: int) -> bool:
        """Whether the machine has power now."""


class EmulatedHardware:
    """Machines of `deploy.xenlab`, which somebody has started."""

    def __init__(self, lab: LabPlan) -> None:
        self._lab = lab
        self._machines = [Machine(lab, host) for host in lab.hosts]

    @classmethod
    def of(cls, state: Path, name: str, hosts: int) -> EmulatedHardware:
        """Those of `python -m deploy.xenlab --state STATE --name NAME --hosts N up`."""
        return cls(plan(state, name=name, hosts=hosts))

    @property
    def hosts(self) -> int:
        return len(self._machines)

    def memory(self) -> int:
        """Bytes that Xen has on the smallest host."""
        known = [await_agent(machine, timeout=30.0) for machine in self._machines]
        return min(int(one["memory"]) for one in known)

    @property
    def cpus(self) -> int:
        """Of each host."""
        return self._lab.cpus

    def agent(self, number: int) -> Place:
        return Place(self._lab.hosts[number - 1].address, AGENT_PORT)

    def socket(self) -> sockets.socket:
        with inside(self._lab.namespace):
            return sockets.socket()

    def listen(self) -> tuple[sockets.socket, Place]:
        listening = self.socket()
        listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listening.bind((GATEWAY, NBD_PORT))
        listening.listen(64)
        return listening, Place(GATEWAY, NBD_PORT)

    def cut_power(self, number: int) -> None:
        self._machines[number - 1].power_off()

    def give_power(self, number: int) -> None:
        machine = self._machines[number - 1]
        machine.power_on()
        await_agent(machine)

    def is_on(self, number: int) -> bool:
        return self._machines[number - 1].is_on()
