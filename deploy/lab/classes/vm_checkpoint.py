"""Checkpoints: snapshots with the VM's memory (xapi_vm_snapshot.ml; recorded: snapshot_revert)."""

from __future__ import annotations

from typing import Any

from deploy.lab.classes import message as messages
from deploy.lab.classes.vm_lifecycle import (
    HALTED,
    RUNNING,
    SUSPENDED,
    check_operation,
    reset_to,
)
from deploy.lab.classes.vm_snapshot import take
from deploy.lab.classes.vm_suspend import put_to_sleep, restore
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.operations import operation


@message("VM.checkpoint")
async def checkpoint(call: Call, vm: Row, name: str) -> str:
    """A running VM is suspended for as long as its disks take; a paused one gives no memory."""
    async with operation(call, vm, "checkpoint", check_operation):
        before = vm.power_state
        if before == RUNNING:
            made = await _take_asleep(call, vm, name)
        else:
            state = SUSPENDED if before == SUSPENDED else HALTED
            made = await take(call, vm, name, state, before)
    body = f"VM '{vm.name_label}' (uuid: {vm.uuid}) checkpointed, checkpoint name: {name}"
    messages.post(call.lab, "VM_CHECKPOINTED", "VM", vm.uuid, body)
    return made.ref


async def _take_asleep(call: Call, vm: Row, name: str) -> Row:
    machine = call.lab.machine(vm.resident_on)
    kept = {name: vm.fields[name] for name in ("resident_on", "domid", "ha_always_run")}
    await put_to_sleep(call, vm)
    # Not a suspension to the rest of the pool: the VM keeps its place (recorded: snapshot_revert).
    call.db.update(vm, **kept)
    try:
        return await take(call, vm, name, SUSPENDED, RUNNING)
    finally:
        try:
            await restore(call, vm, machine, paused=False)
        except XapiError:
            if vm.power_state == SUSPENDED:
                # It stays asleep, and so it is nowhere.
                reset_to(call.lab, vm, SUSPENDED)
            raise
        call.db.update(vm, ha_always_run=kept["ha_always_run"])


@message("VM.get_boot_record")
async def get_boot_record(call: Call, vm: Row) -> Any:
    """The VM's record as it is while this is asked (recorded: PROBES)."""
    async with operation(call, vm, "get_boot_record", check_operation):
        return vm.record
