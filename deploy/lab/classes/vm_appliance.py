"""Appliances: VMs that start and stop together, in their order (xen-api xapi_vm_appliance.ml)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import call_within
from deploy.lab.generic import constructor_values
from deploy.lab.operations import allowed_operations, operation, refresh, refreshes_also

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

OPERATIONS = ("start", "clean_shutdown", "hard_shutdown", "shutdown")
_NOTHING_TO_DO = {
    "start": "There are no halted VMs in this appliance.",
    "clean_shutdown": "There are no running VMs in this appliance.",
    "hard_shutdown": "All VMs in this appliance are halted.",
    "shutdown": "All VMs in this appliance are halted.",
}


def check_operation(lab: Lab, appliance: Row, op: str) -> None:
    """Raise OTHER_OPERATION_IN_PROGRESS, or OPERATION_NOT_ALLOWED when no VM has a use for it."""
    if appliance.current_operations:
        raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VM_appliance", appliance.ref)
    states = [vm.power_state for vm in lab.db.rows("VM", appliance.VMs)]
    if not states:
        raise XapiError("OPERATION_NOT_ALLOWED", "Appliance has no VMs.")
    wanted = {
        "start": lambda state: state == "Halted",
        "clean_shutdown": lambda state: state == "Running",
    }.get(op, lambda state: state != "Halted")
    if not any(map(wanted, states)):
        raise XapiError("OPERATION_NOT_ALLOWED", _NOTHING_TO_DO[op])


@allowed_operations("VM_appliance")
def allowed(lab: Lab, appliance: Row) -> list[str]:
    names = []
    for op in OPERATIONS:
        try:
            check_operation(lab, appliance, op)
        except XapiError:
            continue
        names.append(op)
    return names


@refreshes_also("VM")
def refresh_appliance_of(lab: Lab, vm: Row) -> None:
    appliance = lab.db.find("VM_appliance", vm.appliance)
    if appliance is not None:
        refresh(lab, appliance)


@message("VM_appliance.create")
def create(call: Call, record: dict[str, Any]) -> str:
    row = call.db.create("VM_appliance", **constructor_values(call.message, record))
    refresh(call.lab, row)
    return row.ref


@message("VM_appliance.destroy")
def destroy(call: Call, appliance: Row) -> None:
    """Its VMs keep their reference to it, which leads nowhere from then on."""
    call.db.delete(appliance)


@message("VM_appliance.start")
async def start(call: Call, appliance: Row, paused: bool) -> None:
    state = "Paused" if paused else "Running"
    await _on_all(call, appliance, "start", "VM.start", (paused, False), state)


@message("VM_appliance.clean_shutdown")
async def clean_shutdown(call: Call, appliance: Row) -> None:
    await _on_all(call, appliance, "clean_shutdown", "VM.clean_shutdown", (), "Halted")


@message("VM_appliance.hard_shutdown", "VM_appliance.shutdown")
async def hard_shutdown(call: Call, appliance: Row) -> None:
    await _on_all(call, appliance, call.message.name, "VM.hard_shutdown", (), "Halted")


async def _on_all(
    call: Call, appliance: Row, op: str, method: str, arguments: tuple[Any, ...], state: str
) -> None:
    """One group of equal `order` after the other: ascending to start, descending to stop.

    Raises OPERATION_PARTIALLY_FAILED [operation, VMs…] when VMs are not in `state` in the end.
    """
    async with operation(call, appliance, op, check_operation):
        vms = [vm for vm in call.db.rows("VM", appliance.VMs) if vm.power_state != state]
        groups: dict[int, list[Row]] = defaultdict(list)
        for vm in vms:
            groups[vm.order].append(vm)
        for order in sorted(groups, reverse=state == "Halted"):
            calls = (call_within(call, method, vm.ref, *arguments) for vm in groups[order])
            for result in await asyncio.gather(*calls, return_exceptions=True):
                # What a VM was refused shows in its power state below.
                if isinstance(result, BaseException) and not isinstance(result, XapiError):
                    raise result
        failed = [vm.ref for vm in vms if vm.power_state != state]
        if failed:
            name = "hard_shutdown" if op == "shutdown" else op
            raise XapiError("OPERATION_PARTIALLY_FAILED", f"VM_appliance.{name}", *failed)


@message("VM_appliance.assert_can_be_recovered")
def assert_can_be_recovered(call: Call, appliance: Row, session_to: str) -> None:
    """Nothing is asked for: the records name no storage (see VM.get_SRs_required_for_recovery)."""


@message("VM_appliance.get_SRs_required_for_recovery")
def get_srs_required_for_recovery(call: Call, appliance: Row, session_to: str) -> list[str]:
    return []
