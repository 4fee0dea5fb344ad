"""One simulated pool: its database, its machines, its clock, and everything that acts on them."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from deploy.lab import classes as _classes  # noqa: F401  (registers the messages)
from deploy.lab.backend import Backend
from deploy.lab.clock import Clock
from deploy.lab.coordination import Coordination
from deploy.lab.database import Database, Row
from deploy.lab.detector import Detector
from deploy.lab.dispatch import Dispatcher
from deploy.lab.domains import make_consoles
from deploy.lab.events import Events
from deploy.lab.failover import Failover
from deploy.lab.faults import Faults
from deploy.lab.fresh import build_pool
from deploy.lab.machine import Machine
from deploy.lab.operations import Turns
from deploy.lab.power import Power
from deploy.lab.resume import resume
from deploy.lab.sessions import Account, Sessions
from deploy.lab.state import StateFile
from deploy.lab.storage import Storage, StorageTimes
from deploy.lab.tasks import Tasks
from deploy.lab.xenopsd import Durations, Hypervisor

if TYPE_CHECKING:
    from deploy.lab.guest import Guest

log = logging.getLogger(__name__)

MIB = 1024**2
GIB = 1024**3
COLLECTOR_PERIOD = 30.0


@dataclass
class Config:
    """What kind of pool to simulate. Times are seconds of lab time, sizes bytes."""

    hosts: int = 4
    preset: Literal["recorded", "small"] = "recorded"
    """How much a fresh pool holds: all that the recorded one did, or what it takes to run VMs."""
    pool_name: str = "lab"
    cpus_per_host: int = 16
    memory_per_host: int = 64 * GIB
    control_domain_memory: int = 2 * GIB
    """What a host's own domain takes of it."""
    hypervisor_memory: int = 650 * MIB
    """What the hypervisor takes of a host."""
    shared_storage: int = 2048 * GIB
    local_storage: int = 500 * GIB
    password: str = ""
    """Root's; made up when empty."""
    accounts: dict[str, Account] = field(default_factory=dict)
    """Further users, with their roles; root is always there."""
    seed: int = 0
    rate: float = 1.0
    wrong_password_delay: float = 2.0
    guest_boot_seconds: float = 2.0
    config_disk: int | None = None
    """Device number of the disk that says what a guest is to run (`programs`); None: no such disks."""
    durations: Durations = field(default_factory=Durations)
    storage: StorageTimes = field(default_factory=StorageTimes)
    base_copies: bool = True
    """Whether storage shows the hidden bases of clones (the recorded one did not)."""
    hypervisor: Hypervisor = field(default_factory=Hypervisor)
    backend: Callable[[Lab], Backend] = Backend
    """Makes what carries out on hosts what the daemons decide."""
    bmc_username: str = "admin"
    bmc_password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    bmc_port: int = 0
    """Port of the management controllers at the hosts' addresses; 0 chooses a free one."""
    control_port: int = 0
    """Port of the control API on 127.0.0.1; 0 chooses a free one."""
    bmc_delay: float = 2.0
    """Seconds between a power action's answer and its effect."""
    addresses: list[str] = field(default_factory=list)
    """Management address of each host; defaults to loopback addresses of their own."""
    port: int = 0
    """Port that every host listens on at its address; 0 lets the first free one be chosen."""


class Lab:
    """Belongs to one event loop; everything on it is called there."""

    def __init__(self, config: Config, state: StateFile | None = None) -> None:
        config.password = config.password or secrets.token_urlsafe(12)
        self.config = config
        self.random = random.Random(config.seed)
        self.clock = Clock(config.rate)
        self.db = Database()
        self.events = Events(self)
        self.tasks = Tasks(self)
        self.sessions = Sessions(self, {"root": Account(config.password), **config.accounts})
        self.faults = Faults(self)
        self.detector = Detector(self)
        self.turns = Turns()
        self.storage = Storage(self, kept=state is not None)
        self.power = Power(self)
        self.backend = config.backend(self)
        self.failover = Failover(self)
        self.sleeping: dict[str, Guest] = {}
        """VM uuid → the guest in its suspend image."""
        self.dispatcher = Dispatcher(self)
        self.machines: dict[str, Machine] = {}
        """Reference of the host → its machine."""
        self.coordinator: Machine
        self._work: set[asyncio.Task[Any]] = set()
        saved = state.load() if state is not None else None
        self.is_resumed = saved is not None
        """Goes on from a saved state, rather than fresh."""
        if state is not None and saved is not None:
            resume(self, state, saved)
        else:
            build_pool(self)
        self.coordination = Coordination(self)

    @property
    def pool(self) -> Row:
        return self.db.all("pool")[0]

    def machine(self, host: str) -> Machine:
        """The machine of a host, by name or reference."""
        if host in self.machines:
            return self.machines[host]
        return next(m for m in self.machines.values() if m.name == host)

    def resume_domain(self, machine: Machine, vm: Row, guest: Any) -> None:
        """A domain of a saved state runs again; see `resume`."""
        machine.domains[vm.uuid] = restored = self.backend.restored_guest(vm, machine, guest)
        machine.xenopsd.skip(vm.domid)
        make_consoles(self, vm, machine)
        if not restored.paused:
            restored.thaw()

    def resume_suspended(self, vm: Row, guest: Any) -> None:
        """The guest in a suspend image of a saved state."""
        self.sleeping[vm.uuid] = self.backend.restored_guest(vm, self.coordinator, guest)

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Run `work` to its end in the background of this lab."""
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def run(self) -> None:
        """The daemon's periodic work, until cancelled."""
        if self.pool.ha_enabled:
            self.spawn(self.failover.run())
        while True:
            await self.clock.sleep(COLLECTOR_PERIOD)
            self.tasks.collect()
            self.sessions.collect()
            self.coordination.watch()
            self.power.watch()

    async def close(self) -> None:
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self.storage.blocks.close()

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Build without anyone watching: used while the pool is set up."""
        listeners, self.db.listeners = self.db.listeners, []
        try:
            yield
        finally:
            self.db.listeners = listeners
