"""Pools to replay on: a fresh lab per scenario, or one that runs already."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from deploy.lab.replay import rules
from deploy.lab.replay.wire import TIMEOUT, Endpoint
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.xenopsd import RECORDED_HYPERVISOR, Durations

RATE = 4.0
"""Lab seconds per real second: waiting is shortened, and there still is time between two calls."""

PATIENCE = 3.0
"""Real seconds that one step's waiting may take before the lab's clock is sped up for it."""


class Pool(Protocol):
    """A pool of hosts h1 (the coordinator), h2, h3 …"""

    username: str
    password: str
    rate: float
    """Seconds on the pool's clock per real second."""

    def endpoint(self, host: str) -> Endpoint:
        """The address of a host. Raises LookupError for a host that the pool has not."""

    def now(self) -> float:
        """Seconds on the pool's clock."""

    def control(self, action: str, host: str) -> None:
        """Do something to a host from outside. Raises LookupError for what cannot be done."""

    def hurried(self, seconds: float) -> AbstractContextManager[None]:
        """Let time pass faster meanwhile, if what comes takes `seconds` and they are many."""

    def close(self) -> None:
        """Drop the connections to it."""


class RunningPool:
    """A pool at given addresses, on real time."""

    rate = 1.0

    def __init__(self, urls: Mapping[str, str], username: str, password: str) -> None:
        self.username = username
        self.password = password
        self._endpoints = {host: Endpoint(url, TIMEOUT) for host, url in urls.items()}

    def endpoint(self, host: str) -> Endpoint:
        return self._endpoints[host]

    def now(self) -> float:
        return time.monotonic()

    def control(self, action: str, host: str) -> None:
        raise LookupError(f"{action} of {host} cannot be done to a pool known by its addresses.")

    def hurried(self, seconds: float) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        _close(self._endpoints)


@dataclass
class LabPool:
    """A lab of this process."""

    lab: RunningLab
    rate: float

    def __post_init__(self) -> None:
        self.username = self.lab.username
        self.password = self.lab.password
        self._endpoints = {
            f"h{number}": Endpoint(url, TIMEOUT) for number, url in enumerate(self.lab.urls, 1)
        }

    def endpoint(self, host: str) -> Endpoint:
        return self._endpoints[host]

    def now(self) -> float:
        return self.lab.clock.now()

    def control(self, action: str, host: str) -> None:
        path, body = _control_request(action, host)
        request = urllib.request.Request(
            self.lab.control_url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            pass

    @contextmanager
    def hurried(self, seconds: float) -> Iterator[None]:
        if seconds <= self.rate * PATIENCE:
            yield
            return
        usual, self.rate = self.rate, seconds / PATIENCE
        self.lab.clock.set_rate(self.rate)
        try:
            yield
        finally:
            self.rate = usual
            self.lab.clock.set_rate(usual)

    def close(self) -> None:
        _close(self._endpoints)


def _close(endpoints: Mapping[str, Endpoint]) -> None:
    for endpoint in endpoints.values():
        endpoint.close()


def _control_request(action: str, host: str) -> tuple[str, dict[str, str]]:
    """What to ask the lab's control API. Raises LookupError for what it cannot do."""
    if action in ("crash_host", "power_off", "kill_host"):
        return f"/hosts/{host}/power", {"state": "off"}
    if action in ("power_on", "start_host", "boot_host", "restart_host"):
        return f"/hosts/{host}/power", {"state": "on"}
    if action in ("crash_toolstack", "stop_toolstack"):
        return f"/hosts/{host}/toolstack", {"state": "down"}
    if action in ("restart_toolstack", "restart_xapi"):
        return f"/hosts/{host}/toolstack", {"state": "restart"}
    raise LookupError(f"The lab cannot {action}.")


@contextmanager
def fresh_lab(rate: float = RATE, *, sides: bool = False) -> Iterator[Pool]:
    """A lab with the objects that recordings ask for, until the block ends.

    `sides`: with its control API, for recordings in which something is done from outside.
    """
    with (
        running_lab(
            hosts=3,
            preset="recorded",
            pool_name="simpool",
            tls=False,
            sides=sides,
            rate=rate,
            password=rules.PASSWORD,
            guest_boot_seconds=0.0,
            hypervisor=RECORDED_HYPERVISOR,
            base_copies=False,
            durations=Durations(forward=0.05),
        ) as lab,
        contextlib.closing(LabPool(lab, rate)) as pool,
    ):
        yield pool
