"""Does for a domain's backends what hotplug scripts do, without a process: each takes some 50 ms here.

libxl creates a backend below /local/domain/0/backend and waits. An interface is filtered, hung on its
bridge and brought up, in that order; a disk gets its device's number. Only interfaces of domains that the
agent was told of are connected: others stay down.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.xenlab.agent import filters, libxl, links
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.filters import Filters
from deploy.xenlab.agent.journal import report
from deploy.xenlab.agent.libxl import BACKENDS
from deploy.xenlab.agent.spec import Devices, Vif
from deploy.xenlab.agent.xenstore import Xenstore

# A backend's kind, domain, device; watched by what appears last.
_BACKEND = re.compile(rf"{BACKENDS}/(vif|vbd)/(\d+)/(\d+)/(state|hotplug-status|params)")
# What says that there is something to do for a device.
FIRST = {"vif": "state", "vbd": "params"}
INIT_WAIT = "2"
SETTLED = 30.0
INTERFACE = 10.0
PACE = 0.01


class Hotplug:
    """`devices_of` gives what the agent was told of a domain, by UUID."""

    def __init__(
        self, store: Xenstore, rules: Filters, devices_of: Callable[[str], Devices | None]
    ) -> None:
        self._store = store
        self._rules = rules
        self._devices_of = devices_of
        self._tasks: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._again: set[tuple[str, str, str]] = set()
        self._news: dict[int, asyncio.Event] = {}
        self._xl_at_work = 0

    async def start(self) -> None:
        self._rules.apply(filters.shielding())
        await self._store.watch(f"{BACKENDS}/vif", self._changed)
        # What came while no agent ran.
        for kind in ("vif", "vbd"):
            for domid in await self._store.names(f"{BACKENDS}/{kind}"):
                for device in await self._store.names(f"{BACKENDS}/{kind}/{domid}"):
                    self._changed(f"{BACKENDS}/{kind}/{domid}/{device}/{FIRST[kind]}")

    @asynccontextmanager
    async def connecting_disks(self) -> AsyncIterator[None]:
        """While xl makes a domain, or takes one in: its disks are not connected as they are made.

        At other times nothing is to be done for disks, and to hear of them costs: xenstored tells each of the dozen
        words that a backend says.
        """
        self._xl_at_work += 1
        try:
            if self._xl_at_work == 1:
                await self._store.watch(f"{BACKENDS}/vbd", self._changed)
            yield
        finally:
            self._xl_at_work -= 1
            if not self._xl_at_work:
                await self._store.unwatch(f"{BACKENDS}/vbd")

    async def filter_anew(self, domid: int, vif: Vif) -> None:
        """Changes what a running domain's interface may send, at once and without a gap."""
        name = f"vif{domid}.{vif.device}"
        if links.exists(name):
            self._rules.apply(filters.rules_of(name, vif))

    def move(self, domid: int, before: Vif, after: Vif) -> None:
        """Hangs an interface on another bridge, with the rules that hold there; what fails is undone.

        Raises AgentError `no_such_bridge`.

        It is down meanwhile: neither bridge meets the other's rules, and dom0 no frame of an interface without
        a bridge, which would be its own.
        """
        name = f"vif{domid}.{after.device}"
        _check_bridge(after.bridge)
        if not links.exists(name):
            return
        links.set_up(name, up=False)
        try:
            self._connect(name, after)
        except (OSError, AgentError):
            self._connect(name, before)
            raise

    async def settled(self, domid: int, devices: Devices) -> None:
        """Waits until devices of a domain are connected; raises AgentError `device_failed`."""
        waiting = [("vbd", libxl.disk_number(disk.device)) for disk in devices.disks]
        waiting += [("vif", vif.device) for vif in devices.vifs]
        self._news[domid] = asyncio.Event()
        try:
            async with asyncio.timeout(SETTLED):
                for kind, number in waiting:
                    while not await self._is_connected(domid, kind, number):
                        await self._news[domid].wait()
                        self._news[domid].clear()
        except TimeoutError as late:
            raise AgentError("device_failed", f"devices of domain {domid} do not connect") from late
        finally:
            del self._news[domid]

    async def _is_connected(self, domid: int, kind: str, number: int) -> bool:
        """Raises AgentError for one that cannot be."""
        base, _, _ = libxl.paths(domid, kind, number)
        status = await self._store.read_or(f"{base}/hotplug-status")
        if status == "error":
            why = await self._store.read_or(f"{base}/hotplug-error")
            raise AgentError("device_failed", f"{kind} {number}: {why}")
        return status == "connected"

    def _changed(self, path: str) -> None:
        if found := _BACKEND.fullmatch(path):
            key = (found[1], found[2], found[3])
            if news := self._news.get(int(found[2])):
                news.set()
            if found[1] == "vbd" and found[4] != "params":
                return
            if key in self._tasks:
                self._again.add(key)
            else:
                self._tasks[key] = asyncio.create_task(self._serve(key))

    async def _serve(self, key: tuple[str, str, str]) -> None:
        kind, domid, device = key
        base = f"{BACKENDS}/{kind}/{domid}/{device}"
        try:
            while True:
                self._again.discard(key)
                await (self._vif if kind == "vif" else self._vbd)(base, domid, device)
                if key not in self._again:
                    return
        except (OSError, AgentError) as error:
            report(f"{kind} {device} of domain {domid}: {error}")
            await self._fail(base, str(error))
        finally:
            self._tasks.pop(key, None)

    async def _vbd(self, base: str, domid: str, device: str) -> None:
        if await self._store.read_or(f"{base}/physical-device"):
            return
        if not (params := await self._store.read_or(f"{base}/params")):
            return
        status = Path(params).stat()
        if not stat.S_ISBLK(status.st_mode):
            raise AgentError("no_such_disk", f"{params} is no block device")
        number = status.st_rdev
        where = f"{os.major(number):x}:{os.minor(number):x}"
        await self._store.write(f"{base}/physical-device", where)
        await self._store.write(f"{base}/hotplug-status", "connected")

    async def _vif(self, base: str, domid: str, device: str) -> None:
        name = f"vif{domid}.{device}"
        if await self._store.read_or(f"{base}/state") != INIT_WAIT:
            return
        if await self._store.read_or(f"{base}/hotplug-status"):
            return
        # netback tells its state before it makes the interface, and nothing tells that it did.
        until = asyncio.get_running_loop().time() + INTERFACE
        while not links.exists(name):
            if asyncio.get_running_loop().time() > until:
                raise AgentError("device_failed", f"the kernel made no {name}")
            await asyncio.sleep(PACE)
        identity = (await self._store.read(f"/local/domain/{domid}/vm")).rpartition("/")[2]
        vif = self._told_of(identity, await self._store.read(f"{base}/mac"))
        self._connect(name, vif)
        await self._store.write(f"{base}/hotplug-status", "connected")

    def _connect(self, name: str, vif: Vif) -> None:
        """Filters an interface, hangs it on its bridge and brings it up, in that order."""
        _check_bridge(vif.bridge)
        self._rules.apply(filters.rules_of(name, vif))
        links.add_port(vif.bridge, name)
        links.set_up(name, up=True)

    def _told_of(self, identity: str, mac: str) -> Vif:
        devices = self._devices_of(identity)
        for vif in devices.vifs if devices else ():
            if vif.mac == mac.lower():
                return vif
        raise AgentError("unknown_interface", f"nobody told of an interface {mac} of {identity}")

    async def _fail(self, base: str, why: str) -> None:
        try:
            await self._store.write(f"{base}/hotplug-error", why[:200])
            await self._store.write(f"{base}/hotplug-status", "error")
        except OSError as error:
            report(f"{base}: {error}")


def _check_bridge(name: str) -> None:
    if not links.is_bridge(name):
        raise AgentError("no_such_bridge", f"there is no bridge {name}")
