"""The VDI that holds a suspended VM's memory (recorded: records_vm_family, event_vm_life)."""

from __future__ import annotations

from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.forward import call_within
from deploy.lab.schema import NULL

MIB = 1024**2


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


async def make_image(call: Call, vm: Row, host: Row) -> None:
    """Create the image and note it in the VM. Raises what VDI.create does."""
    size = image_size(vm)
    record = {
        "name_label": "Suspend image",
        "name_description": "Suspend image",
        "SR": suspend_storage(call, vm, host).ref,
        "virtual_size": str(size),
        "type": "suspend",
        "sharable": False,
        "read_only": False,
        "other_config": {},
        "sm_config": {"vmhint": vm.uuid, "initial_allocation": str(size)},
    }
    call.db.update(vm, suspend_VDI=await call_within(call, "VDI.create", record))


async def drop_image(call: Call, vm: Row) -> None:
    """Forget the image and destroy it."""
    image = vm.suspend_VDI
    call.db.update(vm, suspend_VDI=NULL)
    if call.db.find("VDI", image) is not None:
        await call_within(call, "VDI.destroy", image)
