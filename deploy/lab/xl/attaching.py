"""What a host needs before a domain can run on it: bridges, and disks over NBD."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from deploy.lab import disk_locks
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.nbd.server import NbdServer
from deploy.lab.storage import TRANSFER
from deploy.lab.xl.devices import bridges_of, disks_of, vifs_of
from deploy.lab.xl.guest import RealGuest
from deploy.lab.xl.hardware import Hardware, Place
from deploy.lab.xl.link import Link
from deploy.lab.xl.rights import Rights

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at connections whose host has lost its right."""


class Attaching:
    """The disks' server, and what hosts have of it. `links` is filled by the backend."""

    def __init__(self, lab: Lab, links: Mapping[Machine, Link]) -> None:
        self._lab = lab
        self._links = links
        self.rights = Rights(lab, self._machine_at)
        self.nbd = NbdServer(self.rights)
        self._place: Place

    async def start(self, hardware: Hardware) -> None:
        listening, self._place = hardware.listen()
        await self.nbd.listen(listening)
        self._lab.spawn(self.enforce())

    def _machine_at(self, address: str) -> Machine | None:
        return next((m for m, link in self._links.items() if link.place.address == address), None)

    def cut(self, machine: Machine) -> None:
        """From now on nothing of the machine reaches a disk."""
        self.rights.cut(machine)
        self.nbd.drop(client=self._links[machine].place.address)

    async def attach(
        self, machine: Machine, guest: RealGuest, *, plugged: bool = False
    ) -> dict[str, Any]:
        """Have bridges and disks of the VM on the machine; answers them in the agent's words.

        Of a VM that runs only what is `plugged`.
        """
        lab, vm, link = self._lab, guest.vm, self._links[machine]
        for bridge in bridges_of(lab, vm, machine):
            await link.call("bridge", **bridge)
        disks = disks_of(lab, vm, plugged=plugged)
        guest.disks = [disk["vdi"] for disk in disks]
        for disk in disks:
            await self.attach_disk(machine, disk["vdi"], read_only=disk["read_only"])
        return {"disks": disks, "vifs": vifs_of(lab, vm, machine, plugged=plugged)}

    async def attach_disk(self, machine: Machine, vdi: str, *, read_only: bool) -> None:
        await self._links[machine].call(
            "disk_attach",
            vdi=vdi,
            host=self._place.address,
            port=self._place.port,
            export=vdi,
            read_only=read_only,
        )

    async def detach(self, machine: Machine, guest: RealGuest) -> None:
        for vdi in guest.disks:
            await self.detach_disk(machine, vdi)

    async def detach_disk(self, machine: Machine, vdi: str) -> None:
        """Take a disk from the machine; one that it will not give up is taken all the same."""
        link = self._links[machine]
        if machine.powered:
            try:
                await link.call("disk_detach", vdi=vdi)
            except XapiError as error:
                log.warning("%s keeps disk %s: %s", machine.name, vdi, error)
        self.nbd.drop(client=link.place.address, name=vdi)

    @asynccontextmanager
    async def image(self, machine: Machine, vm: Row) -> AsyncIterator[str]:
        """The VM's suspend image, attached to the machine; its uuid."""
        lab, user = self._lab, f"{TRANSFER}memory of {vm.uuid}"
        vdi = lab.db.get("VDI", vm.suspend_VDI)
        await disk_locks.attach(lab, vdi, machine, "RW", user)
        try:
            await self.attach_disk(machine, vdi.uuid, read_only=False)
            try:
                yield vdi.uuid
            finally:
                await self.detach_disk(machine, vdi.uuid)
        finally:
            disk_locks.detach(lab, vdi, machine, user)

    async def enforce(self) -> None:
        """Drop connections whose host has no right to the disk any more."""
        while True:
            for connection in list(self.nbd.connections):
                machine = self._machine_at(connection.client)
                vdi = self.rights.find(connection.name)
                if machine is None or vdi is None or self.rights.mode(machine, vdi) is None:
                    self.nbd.drop(client=connection.client, name=connection.name)
            await asyncio.sleep(LOOK)
