"""The lab's backend whose hosts run Xen: each wish becomes requests to the agent of a host's dom0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deploy.lab.backend import Backend
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.guest import End, Guest
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.measurements import Source
from deploy.lab.schema import NULL
from deploy.lab.xl.attaching import Attaching
from deploy.lab.xl.boot import Boot
from deploy.lab.xl.consoles import follow
from deploy.lab.xl.devices import filter_of
from deploy.lab.xl.guest import RealGuest
from deploy.lab.xl.hardware import Hardware
from deploy.lab.xl.link import Link, Refusal
from deploy.lab.xl.monitor import Monitor
from deploy.lab.xl.plugging import Plugging

log = logging.getLogger(__name__)

MIB = 1024**2
BUILD = 300.0
"""Seconds for a domain to be made."""
MOVE = 600.0
"""Seconds for memory to go to another host, or to a disk."""
MEET = 300.0
"""Seconds until a host that was started has to answer."""
BUSY = 0.2
"""Seconds until a domain that its host is busy with is asked for again."""


class XlBackend(Backend):
    """`hardware` has as many hosts as the pool."""

    def __init__(self, lab: Lab, hardware: Hardware, boot: Boot) -> None:
        super().__init__(lab)
        self._hardware = hardware
        self._boot = boot
        self._links: dict[Machine, Link] = {}
        self.disks = Attaching(lab, self._links)
        self.plugging = Plugging(lab, self._links, self.disks)
        self._monitor = Monitor(lab, self._links)
        self._coming: dict[str, RealGuest] = {}
        """VM uuid → the guest of a domain that is being made or moved."""
        self._consoles: dict[RealGuest, asyncio.Task[None]] = {}

    # --- beginning and end

    async def start(self) -> None:
        await self.disks.start(self._hardware)
        for machine in self.lab.machines.values():
            link = self._links[machine] = Link(
                machine, self._hardware, self._on_hello, self._on_event, self._on_death
            )
            link.start()
        met = [link.met.wait() for link in self._links.values() if link.machine.powered]
        async with asyncio.timeout(MEET):
            await asyncio.gather(*met)
        self.lab.spawn(self._monitor.run())

    async def stop(self) -> None:
        for link in self._links.values():
            await link.stop()
        for task in self._consoles.values():
            task.cancel()
        await self.disks.nbd.stop()

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
            devices = await self.disks.attach(machine, guest)
            await link.call(do, timeout=timeout, **wanted, **devices)
        except XapiError:
            await self.disks.detach(machine, guest)
            raise
        finally:
            del self._coming[guest.vm.uuid]
        guest.paused = True
        self._follow(machine, guest)

    async def unmake(self, machine: Machine, guest: Guest) -> None:
        assert isinstance(guest, RealGuest)
        if not machine.powered:
            return
        async with asyncio.timeout(MOVE):
            while not await self._is_gone(machine, guest.vm.uuid):
                await asyncio.sleep(BUSY)
        self._unfollow(guest)
        await self.disks.detach(machine, guest)

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
        async with self.disks.image(machine, guest.vm) as vdi:
            await link.call("save", timeout=MOVE, uuid=uuid, vdi=vdi)
        self._unfollow(guest)
        await self.disks.detach(machine, guest)

    async def restore(self, machine: Machine, guest: Guest) -> None:
        async with self.disks.image(machine, guest.vm) as vdi:
            wanted = {"uuid": guest.vm.uuid, "vdi": vdi, "paused": True}
            await self._bring(machine, guest, "restore", MOVE, wanted)

    # --- moving

    @contextmanager
    def handing_over(self, vm: Row, source: Machine, target: Machine) -> Iterator[None]:
        lab = self.lab
        modes = {
            uuid: mode
            for machine, uuid in lab.storage.attachments.of(vm.uuid)
            if machine is source and (mode := lab.storage.attachments.mode(source, uuid))
        }
        with self.disks.rights.moving(modes if source is not target else {}, source, target):
            yield

    async def carry(self, guest: Guest, source: Machine, target: Machine) -> None:
        assert isinstance(guest, RealGuest)
        if source is target:
            return
        uuid, there = guest.vm.uuid, self._links[target]
        self._coming[uuid] = guest
        try:
            devices = await self.disks.attach(target, guest, plugged=True)
            await there.call("receive", uuid=uuid, **devices)
            await self._migrate(guest, source, target)
        except XapiError:
            await self.disks.detach(target, guest)
            raise
        finally:
            self._coming.pop(uuid, None)
        self._follow(target, guest)
        await self.disks.detach(source, guest)

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

    async def plug_disk(self, machine: Machine, vbd: Row) -> None:
        await self.plugging.plug_disk(machine, vbd)

    async def unplug_disk(self, machine: Machine, vbd: Row, *, force: bool) -> None:
        await self.plugging.unplug_disk(machine, vbd, force=force)

    async def plug_interface(self, machine: Machine, vif: Row) -> None:
        await self.plugging.plug_interface(machine, vif)

    async def unplug_interface(self, machine: Machine, vif: Row, *, force: bool) -> None:
        await self.plugging.unplug_interface(machine, vif, force=force)

    def check_storage_motion(self, vm: Row) -> None:
        raise XapiError("OPERATION_NOT_ALLOWED", "This pool moves no disks of running VMs.")

    async def filter_interface(self, vif: Row) -> None:
        vm = self.lab.db.get("VM", vif.VM)
        machine = self.lab.machines.get(vm.resident_on) if vm.resident_on != NULL else None
        if machine is not None and vm.uuid in machine.domains and vif.currently_attached:
            wanted = filter_of(vif, self.lab.db.get("network", vif.network))
            await self._links[machine].call(
                "vif_filter", uuid=vm.uuid, device=int(vif.device), **wanted
            )

    async def move_interface(self, machine: Machine, vif: Row, network: Row) -> None:
        await self.plugging.move_interface(machine, vif, network)

    # --- hosts

    async def cut_power(self, machine: Machine) -> None:
        link = self._links[machine]
        self.disks.cut(machine)
        link.drop()
        async with link.cutting:
            await asyncio.to_thread(self._hardware.cut_power, link.number)
        for guest in list(machine.domains.values()):
            self._unfollow(guest)

    async def _on_death(self, machine: Machine) -> None:
        """Take the power of a host that lost it, unless somebody is at it: he may give it back."""
        if not self._links[machine].cutting.locked():
            await self.lab.power.cut(machine)

    async def give_power(self, machine: Machine) -> None:
        link = self._links[machine]
        async with link.cutting:
            self.disks.rights.cut(machine)
        await asyncio.to_thread(self._hardware.give_power, link.number)
        self.disks.rights.admit(machine)
        async with asyncio.timeout(MEET):
            await link.met.wait()

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
        return None if vm.is_control_domain else self._monitor.sources(vm)
