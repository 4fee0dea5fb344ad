"""Opening and closing a VM's disks on the host that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab import disk_locks
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.operations import refresh

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine


async def open_disk(lab: Lab, vbd: Row, machine: Machine) -> None:
    """Open what the VBD points at. Raises what `disk_locks.attach` does."""
    vdi = None if vbd.empty else lab.db.find("VDI", vbd.VDI)
    if vdi is not None:
        await disk_locks.attach(lab, vdi, machine, vbd.mode, lab.db.get("VM", vbd.VM).uuid)


def close_disk(lab: Lab, vbd: Row, machine: Machine) -> None:
    vdi = None if vbd.empty else lab.db.find("VDI", vbd.VDI)
    if vdi is not None:
        disk_locks.detach(lab, vdi, machine, lab.db.get("VM", vbd.VM).uuid)


def show_disk(lab: Lab, vbd: Row) -> None:
    """Have the VBD and its disk say what may be done with them now."""
    if lab.db.find("VBD", vbd.ref) is not None:
        refresh(lab, vbd)
    vdi = lab.db.find("VDI", vbd.VDI)
    if vdi is not None:
        refresh(lab, vdi)


async def open_disks(lab: Lab, vm: Row, machine: Machine, *, booting: bool = True) -> None:
    """Open every disk of a VM whose domain is made on the machine; none when one fails.

    `booting` throws away what was written to disks with on_boot=reset. A VM that moves has those
    disks that are plugged; one that starts has all.
    """
    moves = not booting and vm.power_state in ("Running", "Paused")
    try:
        for vbd in lab.db.rows("VBD", vm.VBDs):
            if moves and not vbd.currently_attached:
                continue
            vdi = None if vbd.empty else lab.db.find("VDI", vbd.VDI)
            if vdi is not None and vdi.on_boot == "reset" and booting:
                lab.storage.blocks.clear(vdi.uuid)
            await open_disk(lab, vbd, machine)
    except XapiError:
        close_disks(lab, vm)
        raise


def close_disks(lab: Lab, vm: Row) -> None:
    """Close every disk of a VM wherever its domain is gone.

    A domain that still runs somewhere keeps its disks open there, whatever is written about it.
    """
    for machine, uuid in lab.storage.attachments.of(vm.uuid):
        if vm.uuid not in machine.domains:
            _close(lab, vm, machine, uuid)


def close_disks_on(lab: Lab, vm: Row, machine: Machine) -> None:
    """Close the VM's disks on one machine: the source of a migration."""
    for other, uuid in lab.storage.attachments.of(vm.uuid):
        if other is machine:
            _close(lab, vm, machine, uuid)


def _close(lab: Lab, vm: Row, machine: Machine, uuid: str) -> None:
    ref = lab.db.tables["VDI"].by_uuid.get(uuid)
    vdi = lab.db.find("VDI", ref) if ref is not None else None
    if vdi is None:
        lab.storage.attachments.closed(machine, uuid, vm.uuid)
    else:
        disk_locks.detach(lab, vdi, machine, vm.uuid)
