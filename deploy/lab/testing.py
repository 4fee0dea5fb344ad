"""A lab in a background thread, for tests and tools that use blocking XAPI clients."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deploy.lab.lab import Config, Lab
from deploy.lab.server import LabServer, start_on_a_free_port
from deploy.lab.state import StateFile

T = TypeVar("T")

_subnets = itertools.count()


@dataclass
class ClockControl:
    """The lab's clock, from another thread. Seconds of lab time."""

    running: RunningLab

    def now(self) -> float:
        return self.running.lab.clock.now()

    def advance(self, seconds: float) -> None:
        self.running.wait(self.running.lab.clock.advance(seconds))

    def set_rate(self, rate: float) -> None:
        self.running.do(lambda lab: lab.clock.set_rate(rate))


class RunningLab:
    """A started lab, its loop in another thread; every attribute may be used from any thread."""

    username = "root"

    def __init__(self, server: LabServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.lab = server.lab
        self._loop = loop
        self.urls = server.urls
        self.password = server.lab.config.password
        self.certificates = [machine.certificate for machine in server.lab.machines.values()]
        self.clock = ClockControl(self)

    @property
    def url(self) -> str:
        """The coordinator's address."""
        machine = self.lab.coordinator
        scheme = "https" if self.server.tls else "http"
        return f"{scheme}://{machine.address}:{machine.port}"

    @property
    def control_url(self) -> str:
        return self.server.control_url

    def bmc_url(self, host: str) -> str:
        machine = self.lab.machine(host)
        return f"https://{machine.address}:{machine.bmc_port}"

    @property
    def faults(self) -> Any:
        return self.lab.faults

    def wait(self, work: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        """Run a coroutine on the lab's loop and answer its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def do(self, action: Callable[[Lab], T]) -> T:
        """Run `action(lab)` on the lab's loop: the only safe way to touch the lab's insides."""

        async def run() -> T:
            return action(self.lab)

        return self.wait(run())


@contextmanager
def running_lab(
    hosts: int = 3,
    *,
    tls: bool = True,
    sides: bool = False,
    rate: float = 1.0,
    state: Path | None = None,
    **options: Any,
) -> Iterator[RunningLab]:
    """Run a lab until the block ends. `options` are those of `Config`.

    With `state` it goes on from that file and is kept there. With `sides` it also serves its control API and the hosts' management controllers.

    Each lab of a process has loopback addresses of its own, so that labs never meet.
    """
    options.setdefault("addresses", _own_addresses(hosts))
    config = Config(hosts=hosts, rate=rate, **options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="lab", daemon=True)
    thread.start()
    try:

        async def start() -> LabServer:
            kept = StateFile(state) if state is not None else None
            return await start_on_a_free_port(config, tls=tls, sides=sides, state=kept)

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        try:
            yield RunningLab(server, loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def _own_addresses(hosts: int) -> list[str]:
    subnet = next(_subnets)
    base = 65 + os.getpid() % 150
    return [f"127.{base}.{subnet % 250}.{n}" for n in range(1, hosts + 1)]
