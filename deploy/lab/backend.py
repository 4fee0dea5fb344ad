"""What carries out on hosts what the pool's daemons decide.

This one keeps guests in memory: whatever a real hypervisor would have to do is nothing here, and the
time that it takes is `Durations`. `deploy.lab.xl` has the one whose hosts run Xen.

Every method may raise XapiError: then nothing of what was asked has come about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.guest import Guest
from deploy.lab.measurements import Source

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine


class Backend:
    """Belongs to one lab, as `lab.backend`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def start(self) -> None:
        """Before the hosts serve their first client."""

    async def stop(self) -> None:
        """After they served their last."""

    # --- domains

    def new_guest(self, vm: Row, machine: Machine) -> Guest:
        """The guest of a domain that is about to be made."""
        return Guest(self.lab, vm, machine.guest_ended)

    def restored_guest(self, vm: Row, machine: Machine, saved: dict[str, Any]) -> Guest:
        """The guest of a domain that went on running while the lab was not."""
        return Guest.restored(self.lab, vm, saved, machine.guest_ended)

    async def build(self, machine: Machine, guest: Guest) -> None:
        """Make the guest's domain; it stands still."""

    async def unmake(self, machine: Machine, guest: Guest) -> None:
        """Destroy the domain of a guest that was killed or has ended."""

    async def unpause(self, machine: Machine, guest: Guest) -> None:
        guest.thaw()

    async def pause(self, machine: Machine, guest: Guest) -> None:
        guest.freeze()

    async def save(self, machine: Machine, guest: Guest) -> None:
        """Write the guest's memory to its VM's suspend image; its domain ends."""

    async def restore(self, machine: Machine, guest: Guest) -> None:
        """Make the domain again from the suspend image; it stands still."""

    @contextmanager
    def handing_over(self, vm: Row, source: Machine, target: Machine) -> Iterator[None]:
        """While the VM's disks go from one machine to the other, for `carry`."""
        yield

    async def carry(self, guest: Guest, source: Machine, target: Machine) -> None:
        """Move the domain while it runs; the disks' locks are the target's already."""

    # --- devices of running domains

    async def plug_disk(self, machine: Machine, vbd: Row) -> None:
        """Give a domain the VBD's disk, which the machine has open; an empty drive is nothing."""
        await self.lab.clock.sleep(self.lab.config.storage.plug)

    async def unplug_disk(self, machine: Machine, vbd: Row, *, force: bool) -> None:
        """Take it back; the machine has the disk open until then. The guest may refuse, if not forced."""
        await self.lab.clock.sleep(self.lab.config.storage.plug)

    async def plug_interface(self, machine: Machine, vif: Row) -> None:
        """Give a domain an interface, whose network the machine has."""

    async def unplug_interface(self, machine: Machine, vif: Row, *, force: bool) -> None:
        """Take it back."""

    def check_storage_motion(self, vm: Row) -> None:
        """Raise what speaks against moving the VM's disks while it runs."""

    async def filter_interface(self, vif: Row) -> None:
        """Have an interface of a running domain let through what its record says."""

    async def move_interface(self, machine: Machine, vif: Row, network: Row) -> None:
        """Have an interface of a domain, running or paused, on the network, with the locking it has there.

        The machine has the network; the interface's record still says where it was.
        """

    # --- hosts

    async def cut_power(self, machine: Machine) -> None:
        """Return when the machine is off and nothing of it will reach a disk."""

    async def give_power(self, machine: Machine) -> None:
        """Return when the machine has booted, beside what `Durations.boot` adds."""

    def vm_sources(self, machine: Machine, vm: Row) -> list[Source] | None:
        """What is measured of the VM; None where nothing is, and curves are drawn instead."""
        return None
