"""Connections of hosts to SRs (xen-api xapi_pbd.ml; recorded: sr_pbd)."""

from __future__ import annotations

from typing import Any

from deploy.lab import disk_locks, storage
from deploy.lab.classes import sr_operations
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.generic import constructor_values
from deploy.lab.operations import operation, refresh

DEFAULT_SIZE = 2048 * 1024**3
"""What a backend reports of an SR of which nobody has said how large it is, in bytes."""


@message("PBD.create")
async def create(call: Call, record: dict[str, Any]) -> str:
    values = constructor_values(call.message, record)
    sr = call.db.get("SR", values["SR"])
    async with operation(call, sr, "pbd_create", sr_operations.check_operation):
        return make(call, sr, **values).ref


def make(call: Call, sr: Row, **values: Any) -> Row:
    """A new connection, not plugged; `values` are the fields of PBD.create.

    Raises PBD_EXISTS [SR, host, PBD], VALUE_NOT_SUPPORTED.
    """
    host = values["host"]
    for other in call.db.rows("PBD", sr.PBDs):
        if other.host == host:
            raise XapiError("PBD_EXISTS", sr.ref, host, other.ref)
    _check_config(values["device_config"])
    return call.db.create("PBD", **{**values, "SR": sr.ref})


def _check_config(config: dict[str, str]) -> None:
    if "SRmaster" in config:
        text = "This key is for internal use only"
        raise XapiError("VALUE_NOT_SUPPORTED", "SRmaster", config["SRmaster"], text)


@message("PBD.destroy")
async def destroy(call: Call, pbd: Row) -> None:
    sr = call.db.find("SR", pbd.SR)
    if sr is None:
        return remove(call, pbd)
    async with operation(call, sr, "pbd_destroy", sr_operations.check_operation):
        remove(call, pbd)


def remove(call: Call, pbd: Row) -> None:
    if pbd.currently_attached:
        raise XapiError("OPERATION_NOT_ALLOWED", "PBD is currently attached")
    call.db.delete(pbd)


@message("PBD.set_device_config")
def set_device_config(call: Call, pbd: Row, value: dict[str, str]) -> None:
    _check_config(value)
    call.db.update(pbd, device_config=value)


@message("PBD.plug")
async def plug(call: Call, pbd: Row) -> None:
    sr = call.db.get("SR", pbd.SR)
    async with operation(call, sr, "plug", sr_operations.check_operation):
        machine = await forward(call, pbd.host)
        if pbd.currently_attached:
            return
        _check_sharing(call, sr, pbd)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.plug):
            storage.check_told_to_fail(pbd.device_config, "sr_attach")
            disk_locks.reset_locks(call.lab, machine.host, sr, master=machine.is_coordinator)
            call.db.update(pbd, currently_attached=True)
            measure(call, sr)
    refresh(call.lab, sr)


def _check_sharing(call: Call, sr: Row, pbd: Row) -> None:
    if sr.shared:
        return
    for other in call.db.rows("PBD", sr.PBDs):
        if other.currently_attached and other.host != pbd.host:
            raise XapiError("SR_NOT_SHARABLE", sr.ref, other.host)


def measure(call: Call, sr: Row) -> None:
    """The backend tells how large an SR is that was only introduced."""
    if sr.physical_size < 0:
        call.db.update(sr, physical_size=DEFAULT_SIZE)
        call.lab.storage.recount(sr)


@message("PBD.unplug")
async def unplug(call: Call, pbd: Row) -> None:
    sr = call.db.get("SR", pbd.SR)
    async with operation(call, sr, "unplug", sr_operations.check_operation):
        machine = await forward(call, pbd.host)
        if not pbd.currently_attached:
            return
        _check_statefile(call, sr)
        in_use = _disks_in_use(call, sr, machine.host)
        if in_use:
            raise XapiError("VDI_IN_USE", *in_use)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.plug):
            call.db.update(pbd, currently_attached=False)
    refresh(call.lab, sr)


def _check_statefile(call: Call, sr: Row) -> None:
    pool = call.lab.pool
    if pool.ha_enabled:
        statefiles = call.db.rows("VDI", list(pool.ha_statefiles))
        if any(sr.ref == vdi.SR for vdi in statefiles):
            raise XapiError("HA_IS_ENABLED")


def _disks_in_use(call: Call, sr: Row, host: Row) -> list[str]:
    """Disks of the SR that VMs on the host have."""
    found: dict[str, None] = {}
    for vm in call.db.rows("VM", host.resident_VMs):
        for vbd in call.db.rows("VBD", vm.VBDs):
            attached = vbd.currently_attached or vbd.reserved
            vdi = call.db.find("VDI", vbd.VDI) if attached and not vbd.empty else None
            if vdi is not None and sr.ref == vdi.SR and vdi.type != "metadata":
                found[vdi.ref] = None
    return list(found)
