"""Calls about a running VM that the lab's hosts have nobody to answer."""

from __future__ import annotations

from deploy.lab.classes.vm_lifecycle import assert_power_state
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.schema import NULL


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


@message("VM.call_host_plugin")
async def call_host_plugin(
    call: Call, vm: Row, plugin: str, function: str, args: dict[str, str]
) -> str:
    """On the host of the VM, which has no plugins."""
    if vm.resident_on != NULL:
        await forward(call, vm.resident_on)
    raise XapiError("XENAPI_MISSING_PLUGIN", plugin)


@message("VM.assert_can_be_recovered")
def assert_can_be_recovered(call: Call, vm: Row, session_to: str) -> None:
    """No storage is asked for (see VM.get_SRs_required_for_recovery)."""


@message("VM.recover")
def recover(call: Call, vm: Row, session_to: str, force: bool) -> None:
    """NOT_IMPLEMENTED beyond the first check: VM_IS_PART_OF_AN_APPLIANCE [vm, appliance]."""
    if call.db.find("VM_appliance", vm.appliance) is not None:
        raise XapiError("VM_IS_PART_OF_AN_APPLIANCE", vm.ref, vm.appliance)
    raise XapiError("NOT_IMPLEMENTED", "VM.recover")
