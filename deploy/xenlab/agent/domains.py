"""The domains of this host: made, watched, ended; each told of once when its state changes.

xl is started with `-e`, so that no process of its own waits for a domain's end: this one does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.xenlab.agent import nbd, spec, xl
from deploy.xenlab.agent.console import Console
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.filters import Filters
from deploy.xenlab.agent.guestvalues import GuestValues
from deploy.xenlab.agent.hotplug import Hotplug
from deploy.xenlab.agent.hypervisor import Hypervisor, Running
from deploy.xenlab.agent.journal import report
from deploy.xenlab.agent.making import Making
from deploy.xenlab.agent.xenstore import Xenstore

KEPT = Path("/run/bulkhead")
TERMINAL = 20.0


@dataclass
class Domain:
    """One that runs here. `busy`: an operation that will say itself how it ends."""

    uuid: str
    domid: int
    state: str
    console: Console | None = None
    busy: str = ""
    terminal: asyncio.Task[None] | None = field(default=None, repr=False)


class Domains:
    """`tell` is called with each event."""

    def __init__(
        self,
        store: Xenstore,
        hypervisor: Hypervisor,
        rules: Filters,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._store = store
        self._hypervisor = hypervisor
        self._tell = tell
        self._values = GuestValues(store, tell)
        self.making = Making(store, hypervisor)
        self.hotplug = Hotplug(store, rules, self.devices_of)
        self._known: dict[str, Domain] = {}
        self._told: dict[str, spec.Devices] = {}
        # Being made or received: not yet anybody's business.
        self._coming: set[str] = set()
        self._looking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        KEPT.mkdir(exist_ok=True)

    async def start(self) -> None:
        await self.hotplug.start()
        for special in ("@introduceDomain", "@releaseDomain"):
            await self._store.watch(special, lambda _: self._spawn(self.look()))
        await self.look()

    def listed(self) -> list[dict[str, Any]]:
        """Every domain here with its state."""
        return [{"uuid": d.uuid, "domid": d.domid, "state": d.state} for d in self._known.values()]

    def known(self) -> list[Domain]:
        return list(self._known.values())

    def one(self, identity: str) -> Domain:
        """A domain that runs here; raises AgentError `no_such_domain`."""
        if (domain := self._known.get(identity)) is None:
            raise AgentError("no_such_domain", f"no domain {identity} runs here")
        return domain

    def devices_of(self, identity: str) -> spec.Devices | None:
        """What the agent was told of a domain's disks and interfaces; None when nobody told it."""
        if identity not in self._told:
            try:
                kept = json.loads((KEPT / identity).read_text())
            except FileNotFoundError:
                return None
            self._told[identity] = spec.devices_of(kept)
        return self._told[identity]

    def told_of(self, identity: str) -> spec.Devices:
        """The same, of a domain that may have none."""
        return self.devices_of(identity) or spec.Devices(identity, (), ())

    def users_of(self, vdi: str) -> list[str]:
        """Domains, here or on their way here, that have a disk."""
        return [
            identity
            for identity in (*self._known, *self._coming)
            if (devices := self.devices_of(identity))
            and any(disk.vdi == vdi for disk in devices.disks)
        ]

    def expect(self, devices: spec.Devices) -> None:
        """Remembers what a domain is made of, over the agent's own restarts."""
        (KEPT / devices.uuid).write_text(devices.to_json())
        self._told[devices.uuid] = devices

    async def filter_vif(self, identity: str, vif: dict[str, Any]) -> None:
        """Changes an interface's locking: `device`, and any of `locked`, `ipv4`, `ipv6`, `disabled`."""
        domain = self.one(identity)
        changed, _, after = self.told_of(identity).with_vif(vif)
        # Kept for the next start of the agent, before the kernel is told.
        self.expect(changed)
        await self.hotplug.filter_anew(domain.domid, after)

    @asynccontextmanager
    async def arriving(self, devices: spec.Devices) -> AsyncIterator[None]:
        """A domain that is being made, received or restored; what fails leaves nothing of it."""
        identity = devices.uuid
        if identity in self._known or identity in self._coming:
            raise AgentError("domain_exists", f"domain {identity} is here already")
        self._coming.add(identity)
        self.expect(devices)
        try:
            yield
        except BaseException:
            self._coming.discard(identity)
            await self._sweep(identity)
            raise
        self._coming.discard(identity)
        await self.look()

    async def create(self, wanted: spec.Domain) -> dict[str, Any]:
        identity = wanted.devices.uuid
        async with self.arriving(wanted.devices):
            if wanted.kind == "pv":
                domid = await self.making.create(wanted)
                await self.hotplug.settled(domid, wanted.devices)
            else:
                domid = await self._create_by_xl(wanted)
        if not wanted.paused:
            await self.unpause(identity)
        return {"domid": domid, "state": self.one(identity).state}

    async def _create_by_xl(self, wanted: spec.Domain) -> int:
        """A PVH domain, whose ACPI tables are libxl's; its number."""
        file = KEPT / f"{wanted.devices.uuid}.cfg"
        file.write_text(spec.configuration(wanted, lambda vdi: nbd.one(vdi).path))
        async with self.hotplug.connecting_disks():
            await xl.run("create", "-e", "-p", "-q", str(file))
            domid = self._running(wanted.devices.uuid).domid
            await self.hotplug.settled(domid, wanted.devices)
        await self._values.prepare(domid, dict(wanted.xenstore))
        return domid

    async def destroy(self, identity: str, reason: str = "killed") -> None:
        """Ends a domain; returns when nothing of it is left."""
        domain = self.one(identity)
        async with self.doing(domain, "destroy"):
            await self._sweep(identity)
        await self._gone(domain, reason)

    async def pause(self, identity: str) -> None:
        self._hypervisor.pause(self.one(identity).domid)
        await self.look()

    async def unpause(self, identity: str) -> None:
        self._hypervisor.unpause(self.one(identity).domid)
        await self.look()

    @asynccontextmanager
    async def doing(self, domain: Domain, what: str) -> AsyncIterator[None]:
        """Marks a domain as being worked on; raises AgentError `domain_busy`."""
        if domain.busy:
            raise AgentError("domain_busy", f"domain {domain.uuid} is busy: {domain.busy}")
        domain.busy = what
        try:
            yield
        finally:
            domain.busy = ""
            self._spawn(self.look())

    async def left(self, domain: Domain, reason: str) -> None:
        """Says that a domain ended here by an operation: saved, or moved away."""
        await self._gone(domain, reason)

    async def look(self) -> None:
        """Compares what the hypervisor runs with what is known, and tells what changed."""
        async with self._looking:
            there = {one.uuid: one for one in self._hypervisor.domains() if not one.dying}
            for identity, running in there.items():
                if identity not in self._known and identity not in self._coming:
                    await self._met(running)
            for domain in list(self._known.values()):
                if domain.busy:
                    continue
                found = there.get(domain.uuid)
                if found is None:
                    await self._gone(domain, "killed")
                elif found.ended:
                    self._spawn(self._ended(domain, found.ended))
                else:
                    domain.domid = found.domid
                    self._becomes(domain, "paused" if found.paused else "running")

    async def _met(self, running: Running) -> None:
        domain = Domain(running.uuid, running.domid, "")
        self._known[running.uuid] = domain
        await self._values.follow(running.domid, running.uuid)
        domain.terminal = asyncio.create_task(self._open(domain))

    async def _open(self, domain: Domain) -> None:
        """Opens the console as soon as xenconsoled made its terminal."""
        path = f"/local/domain/{domain.domid}/console/tty"
        changed = asyncio.Event()
        await self._store.watch(path, lambda _: changed.set())
        try:
            async with asyncio.timeout(TERMINAL):
                while not (tty := await self._store.read_or(path)):
                    await changed.wait()
                    changed.clear()
            domain.console = Console(tty)
        except (OSError, TimeoutError) as error:
            report(f"no console of {domain.uuid}: {error!r}")
        finally:
            await self._store.unwatch(path)

    def _becomes(self, domain: Domain, state: str) -> None:
        if domain.state != state:
            domain.state = state
            self._tell({"event": "domain", "uuid": domain.uuid, "state": state})

    async def _ended(self, domain: Domain, reason: str) -> None:
        if not domain.busy and self._known.get(domain.uuid) is domain:
            try:
                await self.destroy(domain.uuid, reason)
            except AgentError as error:
                report(f"{domain.uuid} ended and cannot be cleared away: {error}")

    async def _gone(self, domain: Domain, reason: str) -> None:
        if self._known.get(domain.uuid) is not domain:
            return
        del self._known[domain.uuid]
        await self._values.unfollow(domain.domid)
        if domain.terminal:
            domain.terminal.cancel()
        if domain.console:
            domain.console.close()
        self._told.pop(domain.uuid, None)
        for file in (KEPT / domain.uuid, KEPT / f"{domain.uuid}.cfg"):
            file.unlink(missing_ok=True)
        self._tell({"event": "domain", "uuid": domain.uuid, "state": "ended", "reason": reason})

    async def _sweep(self, identity: str) -> None:
        """Removes what is left of a domain, if anything is."""
        for running in self._hypervisor.domains():
            if running.uuid == identity and not running.dying:
                await self.making.end(running.domid, identity)

    def _running(self, identity: str) -> Running:
        for running in self._hypervisor.domains():
            if running.uuid == identity:
                return running
        raise AgentError("domain_vanished", f"domain {identity} ended as soon as it was made")

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
