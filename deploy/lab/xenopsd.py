"""What carries out work on a machine's domains: four workers, and one thing at a time per VM.

Work is given by the daemon (start, stop, suspend, …) and takes lab time (`Durations`). A machine
that loses its power or its toolstack while it works does not finish: the caller notices that the
host has gone (CANNOT_CONTACT_HOST).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.lab.errors import XapiError

if TYPE_CHECKING:
    from deploy.lab.machine import Machine

WORKERS = 4


@dataclass(frozen=True)
class Durations:
    """How long things take, in seconds of lab time (near what was recorded)."""

    start: float = 0.1
    stop: float = 0.05
    pause: float = 0.02
    suspend: float = 0.2
    resume: float = 0.1
    migrate: float = 0.4
    guest_stop: float = 0.05
    """From the request until an obedient guest has shut down."""
    shutdown_acknowledgement: float = 60.0
    shutdown: float = 1200.0
    cancel: float = 0.2
    """From task.cancel until work in progress notices."""
    forward: float = 0.0
    """Handing a call over to a member (recorded: up to 0.05)."""
    contact: float = 130.0
    """How long the coordinator tries to reach a host that does not answer."""
    declare_dead: float = 20.0
    """How long it tries before it believes an operator that a host is dead."""
    boot: float = 10.0
    """From power to a toolstack that answers."""
    toolstack: float = 10.0
    """Restart of a toolstack."""
    enable: float = 2.0
    """From a toolstack's start until it enables its host."""
    power_action: float = 10.0
    """From the answer to host.shutdown or host.reboot until it happens."""
    live: float = 600.0
    """After so long without a heartbeat a host counts as not live."""
    memory_report: float = 4.0
    """From a VM's start until VM_metrics shows its memory."""


@dataclass(frozen=True)
class Hypervisor:
    """What kind of hypervisor is below the daemon."""

    has_consoles: bool = True
    """Guests have a graphical and a text console."""
    keeps_devices: bool = True
    """A suspended VM's devices stay plugged, and come back with it."""
    hears_paused_guests: bool = True
    """What a guest told of itself is still known while it is paused."""
    measures_guests: bool = True
    """What guests use is measured: they have round-robin databases."""


RECORDED_HYPERVISOR = Hypervisor(False, False, False, False)
"""The simulated one below the recorded daemon."""


class _Queue:
    """Work on one VM's domain: one thing at a time, in turn."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        """Who has the turn or waits for it; also one who was woken and has not begun."""


class Xenopsd:
    """Belongs to one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._workers = asyncio.Semaphore(WORKERS)
        self._queues: dict[str, _Queue] = {}
        self._domids = itertools.count(1)

    def next_domid(self) -> int:
        return next(self._domids)

    def skip(self, domid: int) -> None:
        """Ids up to `domid` are taken."""
        self._domids = itertools.count(max(domid + 1, next(self._domids)))

    def reset(self) -> None:
        """The machine starts anew: domain ids count from 1, nothing is queued."""
        self.forget_work()
        self._domids = itertools.count(1)

    def forget_work(self) -> None:
        """It starts again: nothing is queued; what was begun before finds that its life is over."""
        self._workers = asyncio.Semaphore(WORKERS)
        self._queues.clear()

    @asynccontextmanager
    async def turn(self, vm: str) -> AsyncIterator[None]:
        """Wait for this VM's queue (`vm` is a uuid) and then for a free worker.

        Raises CANNOT_CONTACT_HOST when the machine went down meanwhile: its queues went with it.
        """
        life = self.machine.life
        queue = self._queues.setdefault(vm, _Queue())
        workers = self._workers
        queue.users += 1
        try:
            async with queue.lock, workers:
                self.check_alive(life)
                yield
        finally:
            queue.users -= 1
            if not queue.users and self._queues.get(vm) is queue:
                del self._queues[vm]

    async def work(self, seconds: float) -> None:
        """Be busy. Raises CANNOT_CONTACT_HOST when the machine goes down meanwhile."""
        life = self.machine.life
        await self.machine.lab.clock.sleep(seconds)
        if life != self.machine.life:
            await self.machine.lab.clock.sleep(self.machine.lab.config.durations.contact)
        self.check_alive(life)

    def check_alive(self, life: int) -> None:
        machine = self.machine
        if life != machine.life or not machine.powered or not machine.toolstack:
            raise XapiError("CANNOT_CONTACT_HOST", machine.host.ref)
