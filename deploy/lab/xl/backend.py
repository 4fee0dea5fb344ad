"""The lab's backend whose hosts run Xen: each wish becomes requests to the agent of a host's dom0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from deploy.lab import disk_locks
from deploy.lab.backend import Backend
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.guest import End, Guest
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.measurements import Source
from deploy.lab.nbd.server import NbdServer
from deploy.lab.schema import NULL
from deploy.lab.storage import TRANSFER
from deploy.lab.xl import metrics
from deploy.lab.xl.boot import Boot
from deploy.lab.xl.consoles import follow
from deploy.lab.xl.devices import bridges_of, disks_of, filter_of, vifs_of
from deploy.lab.xl.guest import RealGuest
from deploy.lab.xl.hardware import Hardware, Place
from deploy.lab.xl.link import Link, Refusal
from deploy.lab.xl.rights import Rights

log = logging.getLogger(__name__)

MIB = 1024**2
BUILD = 300.0
"""Seconds for a domain to be made."""
MOVE = 600.0
"""Seconds for memory to go to another host, or to a disk."""
MEET = 300.0
"""Seconds until a host that was started has to answer."""
LOOK = 2.0
"""Seconds between two looks at disks that lost their host."""
BUSY = 0.2
"""Seconds until a domain that its host is busy with is asked for again."""


class XlBackend(Backend):
    """`hardware` has as many hosts as the pool."""

    def __init__(self, lab: Lab, hardware: Hardware, boot: Boot) -> None:
        super().__init__(lab)
        self._hardware = hardware
        self._boot = boot
        self._links: dict[Machine, Link] = {}
        self.rights = Rights(lab, self._machine_at)
        self.nbd = NbdServer(self.rights)
        self._nbd_place: Place
        self._coming: dict[str, RealGuest] = {}
        """VM uuid → the guest of a domain that is being made or moved."""
        self._consoles: dict[RealGuest, asyncio.Task[None]] = {}
        self._histories: dict[str, metrics.History] = defaultdict(metrics.History)

    # --- beginning and end

    async def start(self) -> None:
        listening, self._nbd_place = self._hardware.listen()
        await self.nbd.listen(listening)
        for machine in self.lab.machines.values():
            link = self._links[machine] = Link(
                machine, self._hardware, self._on_hello, self._on_event
            )
            link.start()
        met = [link.met.wait() for link in self._links.values() if link.machine.powered]
        async with asyncio.timeout(MEET):
            await asyncio.gather(*met)
        self.lab.spawn(self._measure())
        self.lab.spawn(self._enforce())

    async def stop(self) -> None:
        for link in self._links.values():
            await link.stop()
        for task in self._consoles.values():
            task.cancel()
        await self.nbd.stop()

    def _machine_at(self, address: str) -> Machine | None:
        return next((m for m, link in self._links.items() if link.place.address == address), None)

    # --- domains

    def new_guest(self, vm: Row, machine: Machine) -> Guest:
        return self._wired(RealGuest(self.lab, vm, machine.guest_ended))

    def restored_guest(self, vm: Row, machine: Machine, saved: dict[str, Any]) -> Guest:
        return self._wired(RealGuest.restored(self.lab, vm, saved, machine.guest_ended))

    def _wired(self, guest: RealGuest) -> RealGuest:
        guest.ask_for = lambda reason: self._ask(guest, reason)
        return guest

    def _ask(self, guest: RealGuest, reason: End) -> None:
        async def ask() -> None:
            home = self._home(guest)
            if home is not None:
                with contextlib.suppress(XapiError):
                    await self._links[home].call("shutdown", uuid=guest.vm.uuid, how=reason)

        self.lab.spawn(ask())

    def _home(self, guest: Guest) -> Machine | None:
        uuid = guest.vm.uuid
        return next((m for m in self._links if m.domains.get(uuid) is guest), None)

    async def build(self, machine: Machine, guest: Guest) -> None:
        vm, life = guest.vm, machine.life
        wanted = {
            "uuid": vm.uuid,
            "name": vm.name_label,
            "memory_mib": max(16, vm.memory_dynamic_max // MIB),
            "vcpus": vm.VCPUs_at_startup,
            **self._boot.of(vm),
            "xenstore": {k: v for k, v in vm.xenstore_data.items() if k.startswith("vm-data/")},
            "paused": True,
        }
        await self._bring(machine, guest, "create", BUILD, wanted)
        if machine.life != life:
            await self.unmake(machine, guest)
            raise XapiError("CANNOT_CONTACT_HOST", machine.host.ref)

    async def _bring(
        self, machine: Machine, guest: Guest, do: str, timeout: float, wanted: dict[str, Any]
    ) -> None:
        """Have the host make a domain in one of two ways, with all that it needs; or nothing."""
        assert isinstance(guest, RealGuest)
        link = self._links[machine]
        self._coming[guest.vm.uuid] = guest
        try:
            devices = await self._attach(machine, guest)
            await link.call(do, timeout=timeout, **wanted, **devices)
        except XapiError:
            await self._detach(machine, guest)
            raise
        finally:
            del self._coming[guest.vm.uuid]
        guest.paused = True
        self._follow(machine, guest)

    async def _attach(self, machine: Machine, guest: RealGuest) -> dict[str, Any]:
        """Have bridges and disks of the VM on the machine; answers them in the agent's words."""
        lab, vm, link = self.lab, guest.vm, self._links[machine]
        for bridge in bridges_of(lab, vm, machine):
            await link.call("bridge", **bridge)
        disks = disks_of(lab, vm)
        guest.disks = [disk["vdi"] for disk in disks]
        for disk in disks:
            await self._attach_disk(machine, disk["vdi"], read_only=disk["read_only"])
        return {"disks": disks, "vifs": vifs_of(lab, vm, machine)}

    async def _attach_disk(self, machine: Machine, vdi: str, *, read_only: bool) -> None:
        await self._links[machine].call(
            "disk_attach",
            vdi=vdi,
            host=self._nbd_place.address,
            port=self._nbd_place.port,
            export=vdi,
            read_only=read_only,
        )

    async def _detach(self, machine: Machine, guest: RealGuest) -> None:
        for vdi in guest.disks:
            await self._detach_disk(machine, vdi)

    async def _detach_disk(self, machine: Machine, vdi: str) -> None:
        """Take a disk from the machine; one that it will not give up is taken all the same."""
        link = self._links[machine]
        if machine.powered:
            try:
                await link.call("disk_detach", vdi=vdi)
            except XapiError as error:
                log.warning("%s keeps disk %s: %s", machine.name, vdi, error)
        self.nbd.drop(client=link.place.address, name=vdi)

    async def unmake(self, machine: Machine, guest: Guest) -> None:
        assert isinstance(guest, RealGuest)
        if not machine.powered:
            return
        async with asyncio.timeout(MOVE):
            while not await self._is_gone(machine, guest.vm.uuid):
                await asyncio.sleep(BUSY)
        self._unfollow(guest)
        await self._detach(machine, guest)

    async def _is_gone(self, machine: Machine, uuid: str) -> bool:
        """Destroy a domain; False when its host is still busy with it, with its end for example."""
        try:
            await self._links[machine].call("destroy", uuid=uuid)
        except Refusal as refusal:
            if refusal.reason not in ("no_such_domain", "domain_busy"):
                raise
            return refusal.reason == "no_such_domain"
        return True

    async def unpause(self, machine: Machine, guest: Guest) -> None:
        await self._links[machine].call("unpause", uuid=guest.vm.uuid)
        guest.thaw()

    async def pause(self, machine: Machine, guest: Guest) -> None:
        await self._links[machine].call("pause", uuid=guest.vm.uuid)
        guest.freeze()

    async def save(self, machine: Machine, guest: Guest) -> None:
        assert isinstance(guest, RealGuest)
        link, uuid = self._links[machine], guest.vm.uuid
        async with self._image(machine, guest.vm) as vdi:
            await link.call("save", timeout=MOVE, uuid=uuid, vdi=vdi)
        self._unfollow(guest)
        await self._detach(machine, guest)

    async def restore(self, machine: Machine, guest: Guest) -> None:
        async with self._image(machine, guest.vm) as vdi:
            wanted = {"uuid": guest.vm.uuid, "vdi": vdi, "paused": True}
            await self._bring(machine, guest, "restore", MOVE, wanted)

    @asynccontextmanager
    async def _image(self, machine: Machine, vm: Row) -> AsyncIterator[str]:
        """The VM's suspend image, attached to the machine; its uuid."""
        lab, user = self.lab, f"{TRANSFER}memory of {vm.uuid}"
        vdi = lab.db.get("VDI", vm.suspend_VDI)
        await disk_locks.attach(lab, vdi, machine, "RW", user)
        try:
            await self._attach_disk(machine, vdi.uuid, read_only=False)
            try:
                yield vdi.uuid
            finally:
                await self._detach_disk(machine, vdi.uuid)
        finally:
            disk_locks.detach(lab, vdi, machine, user)

    # --- moving

    @contextmanager
    def handing_over(self, vm: Row, source: Machine, target: Machine) -> Iterator[None]:
        lab = self.lab
        modes = {
            uuid: mode
            for machine, uuid in lab.storage.attachments.of(vm.uuid)
            if machine is source and (mode := lab.storage.attachments.mode(source, uuid))
        }
        with self.rights.moving(modes if source is not target else {}, source, target):
            yield

    async def carry(self, guest: Guest, source: Machine, target: Machine) -> None:
        assert isinstance(guest, RealGuest)
        if source is target:
            return
        uuid, there = guest.vm.uuid, self._links[target]
        self._coming[uuid] = guest
        try:
            devices = await self._attach(target, guest)
            await there.call("receive", uuid=uuid, **devices)
            await self._migrate(guest, source, target)
        except XapiError:
            await self._detach(target, guest)
            raise
        finally:
            self._coming.pop(uuid, None)
        self._follow(target, guest)
        await self._detach(source, guest)

    async def _migrate(self, guest: RealGuest, source: Machine, target: Machine) -> None:
        """Raises VM_MIGRATE_FAILED [vm, source, target, text] when the domain did not arrive."""
        uuid, there = guest.vm.uuid, self._links[target]
        try:
            await self._links[source].call(
                "migrate", timeout=MOVE, uuid=uuid, to=there.place.address, live=True
            )
        except XapiError as error:
            known = await there.call("hello")
            here = any(domain["uuid"] == uuid for domain in known["domains"])
            if here and source.powered and not isinstance(error, Refusal):
                # The source went silent after the domain had left it.
                return
            if here:
                with contextlib.suppress(XapiError):
                    await there.call("destroy", uuid=uuid)
            text = error.parameters[-1] if error.parameters else error.code
            raise XapiError(
                "VM_MIGRATE_FAILED", guest.vm.ref, source.host.ref, target.host.ref, text
            ) from error

    # --- devices

    def check_hot_plug(self, vm: Row) -> None:
        raise XapiError("OPERATION_NOT_ALLOWED", "This pool plugs devices only as a VM starts.")

    def check_storage_motion(self, vm: Row) -> None:
        raise XapiError("OPERATION_NOT_ALLOWED", "This pool moves no disks of running VMs.")

    async def filter_interface(self, vif: Row) -> None:
        vm = self.lab.db.get("VM", vif.VM)
        machine = self.lab.machines.get(vm.resident_on) if vm.resident_on != NULL else None
        if machine is not None and vm.uuid in machine.domains:
            await self._links[machine].call(
                "vif_filter", uuid=vm.uuid, device=int(vif.device), **filter_of(self.lab, vif)
            )

    # --- hosts

    async def cut_power(self, machine: Machine) -> None:
        link = self._links[machine]
        self.rights.cut(machine)
        self.nbd.drop(client=link.place.address)
        link.drop()
        await asyncio.to_thread(self._hardware.cut_power, link.number)
        for guest in list(machine.domains.values()):
            self._unfollow(guest)

    async def give_power(self, machine: Machine) -> None:
        link = self._links[machine]
        await asyncio.to_thread(self._hardware.give_power, link.number)
        self.rights.admit(machine)
        async with asyncio.timeout(MEET):
            await link.met.wait()

    async def _enforce(self) -> None:
        """Drop connections whose host has no right to the disk any more."""
        while True:
            for connection in list(self.nbd.connections):
                machine = self._machine_at(connection.client)
                vdi = self.rights.find(connection.name)
                if machine is None or vdi is None or self.rights.mode(machine, vdi) is None:
                    self.nbd.drop(client=connection.client, name=connection.name)
            await asyncio.sleep(LOOK)

    # --- what hosts tell

    async def _on_hello(self, machine: Machine, known: dict[str, Any]) -> None:
        """Believe the host about what it runs."""
        running = {domain["uuid"]: domain["state"] for domain in known["domains"]}
        for uuid, guest in list(machine.domains.items()):
            if uuid in running:
                guest.paused = running[uuid] == "paused"
                self._follow(machine, guest)
            elif guest.is_whole:
                guest.ended_by_itself("killed")
        for uuid in running.keys() - machine.domains.keys() - self._coming.keys():
            log.warning("%s runs %s, which nobody knows: destroyed", machine.name, uuid)
            self.lab.spawn(self._destroy_stranger(machine, uuid))

    async def _destroy_stranger(self, machine: Machine, uuid: str) -> None:
        await self._links[machine].met.wait()
        if uuid not in machine.domains and uuid not in self._coming:
            with contextlib.suppress(XapiError):
                await self._links[machine].call("destroy", uuid=uuid)

    def _on_event(self, machine: Machine, event: dict[str, Any]) -> None:
        uuid = event["uuid"]
        guest = self._coming.get(uuid) or machine.domains.get(uuid)
        if guest is None:
            return
        if event["event"] == "xenstore":
            guest.hear(event["path"], event["value"])
        elif event["state"] == "ended" and event["reason"] not in ("suspend", "migrated"):
            guest.ended_by_itself(event["reason"])

    def _follow(self, machine: Machine, guest: RealGuest) -> None:
        self._unfollow(guest)
        self._consoles[guest] = self.lab.spawn(follow(self._links[machine], guest))

    def _unfollow(self, guest: RealGuest) -> None:
        task = self._consoles.pop(guest, None)
        if task is not None:
            task.cancel()

    # --- what is measured

    def vm_sources(self, machine: Machine, vm: Row) -> list[Source] | None:
        if vm.is_control_domain:
            return None
        history = self._histories.get(vm.uuid)
        return metrics.sources(history) if history is not None else []

    async def _measure(self) -> None:
        while True:
            await asyncio.gather(*(self._measure_host(link) for link in self._links.values()))
            await asyncio.sleep(metrics.EVERY)

    async def _measure_host(self, link: Link) -> None:
        if not link.met.is_set():
            return
        try:
            stats = await link.call("stats", timeout=4 * metrics.EVERY)
        except XapiError:
            return
        for domain in stats["domains"]:
            if domain["uuid"] in link.machine.domains:
                history = self._histories[domain["uuid"]]
                history.add(self.lab.clock.now(), metrics.flat(domain))
