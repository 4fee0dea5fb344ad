"""Calls about a running VM that the lab's hosts have nobody to answer."""

from __future__ import annotations

from deploy.lab.classes.vm_lifecycle import assert_power_state
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward


@message("VM.retrieve_wlb_recommendations")
def retrieve_wlb_recommendations(call: Call, vm: Row) -> dict[str, list[str]]:
    """Without workload balancing there is nobody to ask."""
    raise XapiError("WLB_NOT_INITIALIZED")


@message("VM.s3_suspend", "VM.s3_resume")
async def sleep_inside(call: Call, vm: Row) -> None:
    """Sleep states inside the guest, which the recorded hypervisor does not do either."""
    assert_power_state(vm, "Running")
    await forward(call, vm.resident_on)
    raise XapiError("NOT_IMPLEMENTED", call.message.name)


@message("VM.restart_device_models")
async def restart_device_models(call: Call, vm: Row) -> None:
    """Nothing is emulated here, so there is nothing to restart."""
    assert_power_state(vm, "Running")
    await forward(call, vm.resident_on)
