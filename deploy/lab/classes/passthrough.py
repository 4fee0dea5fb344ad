"""Groups of graphics cards and USB devices, of which the lab's hosts have none."""

from __future__ import annotations

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward


@message("GPU_group.create", "USB_group.create")
def create(call: Call, name_label: str, name_description: str, other_config: dict[str, str]) -> str:
    return call.db.create(
        call.message.cls,
        name_label=name_label,
        name_description=name_description,
        other_config=other_config,
    ).ref


@message("GPU_group.destroy")
def destroy_gpu_group(call: Call, group: Row) -> None:
    """Raises GPU_GROUP_CONTAINS_PGPU, GPU_GROUP_CONTAINS_VGPU."""
    if group.PGPUs:
        raise XapiError("GPU_GROUP_CONTAINS_PGPU", *group.PGPUs)
    if group.VGPUs:
        raise XapiError("GPU_GROUP_CONTAINS_VGPU", *group.VGPUs)
    call.db.delete(group)


@message("USB_group.destroy")
def destroy_usb_group(call: Call, group: Row) -> None:
    """Raises USB_GROUP_CONTAINS_VUSB, USB_GROUP_CONTAINS_PUSB."""
    if group.VUSBs:
        raise XapiError("USB_GROUP_CONTAINS_VUSB", *group.VUSBs)
    if group.PUSBs:
        raise XapiError("USB_GROUP_CONTAINS_PUSB", *group.PUSBs)
    call.db.delete(group)


@message("PUSB.scan")
async def scan(call: Call, host: str) -> None:
    """Finds nothing."""
    await forward(call, host)
