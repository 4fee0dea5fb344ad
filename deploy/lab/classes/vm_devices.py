"""Whether a VM's disks may be attached when its domain is made (xapi_vbd_helpers.ml; FACTS 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.errors import XapiError

if TYPE_CHECKING:
    from deploy.lab.lab import Lab


def check_disk(lab: Lab, vbd: Row, op: str) -> None:
    """Raise what keeps the VBD from being attached at a start.

    VDI_IN_USE [vdi] when the disk is not sharable and another VM has it, VDI_READONLY [vdi],
    OTHER_OPERATION_IN_PROGRESS while something is done to the VBD or its VDI.
    """
    for task, current in vbd.current_operations.items():
        raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VBD", vbd.ref, current, task)
    vdi = None if vbd.empty else lab.db.find("VDI", vbd.VDI)
    if vdi is None:
        return
    for task, current in vdi.current_operations.items():
        if current != "copy":
            raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi.ref, current, task)
    if vdi.sharable:
        return
    writes = vbd.mode == "RW"
    for other in lab.db.rows("VBD", vdi.VBDs):
        if other is not vbd and _is_active(lab, other) and (writes or other.mode == "RW"):
            raise XapiError("VDI_IN_USE", vdi.ref)
    if vdi.read_only and writes:
        raise XapiError("VDI_READONLY", vdi.ref)


def _is_active(lab: Lab, vbd: Row) -> bool:
    vm = lab.db.find("VM", vbd.VM)
    if vm is None or vm.power_state == "Suspended":
        return False
    return bool(vbd.currently_attached or vbd.reserved or vbd.current_operations)
