"""The VDI that holds a suspended VM's memory (recorded: records_vm_family, event_vm_life)."""

from __future__ import annotations

from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.forward import subtask
from deploy.lab.operations import refresh
from deploy.lab.schema import NULL

MIB = 1024**2
ALLOCATION = 2 * MIB


def image_size(vm: Row) -> int:
    """Bytes to ask for: the VM's largest memory with room for the format around it."""
    return int(vm.memory_static_max * 1.26) + 100 * MIB


def suspend_storage(call: Call, vm: Row, host: Row) -> Row:
    """Where the VM's image goes. Raises VM_NO_SUSPEND_SR [vm]."""
    for ref in (vm.suspend_SR, call.lab.pool.suspend_image_SR, host.suspend_image_sr):
        sr = call.db.find("SR", ref)
        if sr is not None:
            return sr
    raise XapiError("VM_NO_SUSPEND_SR", vm.ref)


def make_image(call: Call, vm: Row, host: Row) -> Row:
    """Create the image and note it in the VM."""
    size = image_size(vm)
    sr = suspend_storage(call, vm, host)
    with subtask(call, "VDI.create"):
        vdi = call.db.create(
            "VDI",
            name_label="Suspend image",
            name_description="Suspend image",
            SR=sr.ref,
            virtual_size=-(-size // ALLOCATION) * ALLOCATION,
            physical_utilisation=12288,
            type="suspend",
            managed=True,
            sm_config={"vmhint": vm.uuid, "initial_allocation": str(size)},
        )
        call.db.update(vdi, location=vdi.uuid)
        refresh(call.lab, vdi)
    call.db.update(vm, suspend_VDI=vdi.ref)
    return vdi


async def drop_image(call: Call, vm: Row) -> None:
    """Forget the image and destroy it."""
    vdi = call.db.find("VDI", vm.suspend_VDI)
    call.db.update(vm, suspend_VDI=NULL)
    if vdi is not None:
        with subtask(call, "VDI.destroy"):
            call.db.delete(vdi)
