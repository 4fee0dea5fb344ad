"""Devices of domains that exist: plugged, unplugged and moved, whether the domain runs or stands still.

Without xl, which needs 0.2 to 0.6 s a device here, and takes none from a domain that stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deploy.xenlab.agent import libxl, nbd, transaction
from deploy.xenlab.agent.domains import Domain, Domains
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.spec import Devices, Disk, Vif
from deploy.xenlab.agent.xenstore import Xenstore

CONNECTED, CLOSING, CLOSED = "4", "5", "6"
LET_GO = 10.0
GONE = 10.0
PACE = 0.01


class Plugging:
    """Any number of devices in one go."""

    def __init__(self, store: Xenstore, domains: Domains) -> None:
        self._store = store
        self._domains = domains

    async def plug(self, more: Devices) -> None:
        """Gives a domain disks, which must be attached, and interfaces, on bridges that exist.

        Returns when dom0 serves them; the guest takes them when it runs. What fails leaves nothing.
        Raises AgentError.
        """
        domain = self._domains.one(more.uuid)
        async with self._domains.doing(domain, "plug"):
            known = self._domains.told_of(domain.uuid)
            _check_free(known, more)
            added = [libxl.of_disk(disk, nbd.one(disk.vdi).path) for disk in more.disks]
            added += [libxl.of_vif(vif) for vif in more.vifs]
            # First of all: an interface is filtered by what is known of it.
            self._domains.expect(
                replace(known, disks=known.disks + more.disks, vifs=known.vifs + more.vifs)
            )
            try:
                libxl.add(domain.domid, domain.uuid, added)
                nodes = [node for device in added for node in device.nodes(domain.domid)]
                await asyncio.to_thread(transaction.make_all, nodes)
                # Disks are connected as they are made.
                await self._domains.hotplug.settled(domain.domid, replace(more, disks=()))
            except BaseException:
                await self._forget(domain, known, more)
                raise

    async def unplug(
        self, identity: str, disks: list[int], vifs: list[int], *, force: bool
    ) -> None:
        """Takes devices back, by their numbers; returns when nothing of them is left.

        A guest that runs and uses one is asked, and may refuse unless `force`: AgentError
        `device_in_use`. Its disk stays then.
        """
        domain = self._domains.one(identity)
        async with self._domains.doing(domain, "unplug"):
            known = self._domains.told_of(domain.uuid)
            gone = Devices(
                known.uuid,
                tuple(disk for disk in known.disks if disk.device in disks),
                tuple(vif for vif in known.vifs if vif.device in vifs),
            )
            if len(gone.disks) != len(set(disks)) or len(gone.vifs) != len(set(vifs)):
                raise AgentError("no_such_device", f"{identity} has no such device")
            if not force:
                for kind, number in _numbers(gone):
                    await self._ask_for(domain.domid, kind, number)
            left = replace(
                known,
                disks=tuple(disk for disk in known.disks if disk not in gone.disks),
                vifs=tuple(vif for vif in known.vifs if vif not in gone.vifs),
            )
            await self._forget(domain, left, gone)

    async def move(self, identity: str, changes: Mapping[str, Any]) -> None:
        """Hangs an interface (`device`) on another bridge (`bridge`), whether the guest runs or not.

        Its rules change along when they are given. Raises AgentError: nothing has changed then.
        """
        domain = self._domains.one(identity)
        async with self._domains.doing(domain, "vif_move"):
            known = self._domains.told_of(identity)
            moved, before, after = known.with_vif(changes)
            # All that may be refused comes before the first wait, so that filters set later hold.
            libxl.rehang(domain.domid, identity, after)
            self._domains.expect(moved)
            try:
                self._domains.hotplug.move(domain.domid, before, after)
            except BaseException:
                self._domains.expect(known)
                libxl.rehang(domain.domid, identity, before)
                raise
            backend, _, kept = libxl.paths(domain.domid, "vif", after.device)
            await asyncio.gather(
                *(self._store.write(f"{node}/bridge", after.bridge) for node in (kept, backend))
            )

    async def _ask_for(self, domid: int, kind: str, number: int) -> None:
        """Has the guest let go of a device that it uses."""
        backend, _, _ = libxl.paths(domid, kind, number)
        if await self._store.read_or(f"{backend}/state") != CONNECTED:
            return
        await self._store.write(f"{backend}/online", "0")
        await self._store.write(f"{backend}/state", CLOSING)
        try:
            async with asyncio.timeout(LET_GO):
                while await self._store.read_or(f"{backend}/state", CLOSED) != CLOSED:
                    await asyncio.sleep(PACE)
        except TimeoutError as late:
            raise AgentError("device_in_use", f"the guest keeps {kind} {number}") from late

    async def _forget(self, domain: Domain, left: Devices, gone: Devices) -> None:
        """Removes all that there is of devices."""
        for kind, number in _numbers(gone):
            for path in libxl.paths(domain.domid, kind, number):
                await self._store.remove(path)
        libxl.remove(domain.domid, domain.uuid, list(gone.disks), list(gone.vifs))
        async with asyncio.timeout(GONE):
            for kind, number in _numbers(gone):
                while (libxl.SERVED / f"{kind}-{domain.domid}-{number}").exists():
                    await asyncio.sleep(PACE)
        self._domains.expect(left)


def _numbers(devices: Devices) -> list[tuple[str, int]]:
    disks = [("vbd", libxl.disk_number(disk.device)) for disk in devices.disks]
    return disks + [("vif", vif.device) for vif in devices.vifs]


def _check_free(known: Devices, more: Devices) -> None:
    """Raises AgentError `device_taken`."""
    for have, wanted, kind in (
        (known.disks, more.disks, "disk"),
        (known.vifs, more.vifs, "interface"),
    ):
        numbers = [one.device for one in _either(have) + _either(wanted)]
        for one in wanted:
            if numbers.count(one.device) > 1:
                raise AgentError("device_taken", f"{known.uuid} has a {kind} {one.device}")


def _either(devices: tuple[Disk, ...] | tuple[Vif, ...]) -> list[Disk | Vif]:
    return list(devices)
