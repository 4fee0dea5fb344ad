"""Devices that a domain is given, or gives back, while it is there.

A disk is opened and locked by the caller first, as for a start: its host gets no connection without that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.xl.attaching import Attaching
from deploy.lab.xl.devices import bridge_of, disk_of, filter_of, vif_of
from deploy.lab.xl.guest import RealGuest
from deploy.lab.xl.link import Link, Refusal


class Plugging:
    """Every method raises XapiError: nothing has changed then, but for CANNOT_CONTACT_HOST."""

    def __init__(self, lab: Lab, links: Mapping[Machine, Link], disks: Attaching) -> None:
        self._lab = lab
        self._links = links
        self._disks = disks

    async def plug_disk(self, machine: Machine, vbd: Row) -> None:
        disk, guest = disk_of(self._lab, vbd), self._guest(machine, vbd)
        if disk is None:
            return
        # From here on the end of the domain detaches it too.
        guest.disks.append(disk["vdi"])
        try:
            await self._disks.attach_disk(machine, disk["vdi"], read_only=disk["read_only"])
            await self._plug(machine, guest, disks=[disk])
        except XapiError:
            await self._detach(machine, guest, disk["vdi"])
            raise

    async def unplug_disk(self, machine: Machine, vbd: Row, *, force: bool) -> None:
        """Raises DEVICE_DETACH_REJECTED [class, vbd, text]."""
        disk, guest = disk_of(self._lab, vbd), self._guest(machine, vbd)
        if disk is None:
            return
        await self._unplug(machine, guest, "VBD", vbd, force=force, disks=[disk["device"]])
        await self._detach(machine, guest, disk["vdi"])

    async def plug_interface(self, machine: Machine, vif: Row) -> None:
        lab, guest = self._lab, self._guest(machine, vif)
        bridge = bridge_of(lab, lab.db.get("network", vif.network), machine)
        await self._links[machine].call("bridge", **bridge)
        await self._plug(machine, guest, vifs=[vif_of(lab, vif, machine)])

    async def unplug_interface(self, machine: Machine, vif: Row, *, force: bool) -> None:
        """Raises DEVICE_DETACH_REJECTED [class, vif, text]."""
        guest = self._guest(machine, vif)
        await self._unplug(machine, guest, "VIF", vif, force=force, vifs=[int(vif.device)])

    async def move_interface(self, machine: Machine, vif: Row, network: Row) -> None:
        guest, link = self._guest(machine, vif), self._links[machine]
        bridge = bridge_of(self._lab, network, machine)
        await link.call("bridge", **bridge)
        await link.call(
            "vif_move",
            uuid=guest.vm.uuid,
            device=int(vif.device),
            bridge=bridge["name"],
            **filter_of(vif, network),
        )

    def _guest(self, machine: Machine, device: Row) -> RealGuest:
        vm = self._lab.db.get("VM", device.VM)
        guest = machine.domains.get(vm.uuid)
        if guest is None:
            raise XapiError("VM_BAD_POWER_STATE", vm.ref, "running", "halted")
        assert isinstance(guest, RealGuest)
        return guest

    async def _plug(self, machine: Machine, guest: RealGuest, **devices: Any) -> None:
        await self._links[machine].call("plug", uuid=guest.vm.uuid, **devices)

    async def _unplug(
        self,
        machine: Machine,
        guest: RealGuest,
        cls: str,
        device: Row,
        *,
        force: bool,
        **devices: Any,
    ) -> None:
        try:
            await self._links[machine].call("unplug", uuid=guest.vm.uuid, force=force, **devices)
        except Refusal as refusal:
            if refusal.reason != "device_in_use":
                raise
            text = "the guest does not let go of it"
            raise XapiError("DEVICE_DETACH_REJECTED", cls, device.ref, text) from refusal

    async def _detach(self, machine: Machine, guest: RealGuest, vdi: str) -> None:
        await self._disks.detach_disk(machine, vdi)
        if vdi in guest.disks:
            guest.disks.remove(vdi)
