"""Disks made of disks: clones, snapshots, copies.

Facts: FACTS 7, xen-api xapi_vdi.ml; XAPI.md 2.4; recorded: vdi_clone_snapshot,
clone_copy_provision, snapshot_revert.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from deploy.lab import disk_locks, storage
from deploy.lab.attachments import Mode
from deploy.lab.classes import devices, sm
from deploy.lab.classes.storage_hosts import machine_for
from deploy.lab.classes.vdi import check_managed, introduce
from deploy.lab.classes.vdi_operations import check_operation, held
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import call_within
from deploy.lab.machine import Machine
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL

_CARRIED = (
    "name_label",
    "name_description",
    "type",
    "sharable",
    "other_config",
    "xenstore_data",
    "on_boot",
    "allow_caching",
    "tags",
    "virtual_size",
)
"""What a clone or snapshot takes over from its source."""


@message("VDI.clone")
async def clone(call: Call, vdi: Row, driver_params: dict[str, str]) -> str:
    return (await clone_vdi(call, vdi)).ref


@message("VDI.snapshot")
async def snapshot(call: Call, vdi: Row, driver_params: dict[str, str]) -> str:
    return (await snapshot_vdi(call, vdi)).ref


async def clone_vdi(call: Call, vdi: Row) -> Row:
    """A copy-on-write copy of the disk, on the same SR.

    It names what its source is a snapshot of, too (recorded). Raises
    SR_OPERATION_NOT_SUPPORTED, SR_HAS_NO_PBDS, VDI_NOT_MANAGED, SR_BACKEND_FAILURE_109 (chain),
    SR_BACKEND_FAILURE_44 (no room).
    """
    async with held(call, vdi, "clone", "vdi_clone") as sr:
        seconds = call.lab.storage.times.clone
        return await _branch(call, sr, vdi, "vdi_clone", seconds, snapshot_of=vdi.snapshot_of)


async def snapshot_vdi(call: Call, vdi: Row) -> Row:
    """A clone that knows of what, and when, it is a snapshot. Raises what `clone_vdi` does."""
    async with held(call, vdi, "snapshot", "vdi_snapshot") as sr:
        seconds = call.lab.storage.times.snapshot
        fields = {"is_a_snapshot": True, "snapshot_of": vdi.ref}
        return await _branch(call, sr, vdi, "vdi_snapshot", seconds, **fields)


async def _branch(
    call: Call, sr: Row, vdi: Row, command: str, seconds: float, **fields: Any
) -> Row:
    await machine_for(call, sr)
    check_managed(vdi)
    kept = call.lab.storage
    async with kept.working(sr.ref, seconds):
        kept.check_told_to_fail(sr, command)
        used = kept.size(sr, vdi.virtual_size)
        kept.check_room(sr, used)
        new = str(uuids.uuid4())
        parent = kept.branch(vdi, new)
        branch = introduce(
            call,
            uuid=new,
            SR=sr.ref,
            physical_utilisation=used,
            sm_config={"vhd-parent": parent},
            snapshot_time=call.lab.clock.date(),
            **{name: vdi.fields[name] for name in _CARRIED},
            **fields,
        )
        kept.known.remember(sr, branch)
        kept.account(sr, virtual=vdi.virtual_size, physical=used)
    return branch


# --- full copies


@message("VDI.copy")
async def copy(call: Call, vdi: Row, sr: str, base_vdi: str, into_vdi: str) -> str:
    return (await copy_vdi(call, vdi, sr, into_vdi)).ref


async def copy_vdi(call: Call, vdi: Row, sr: str, into: str = NULL) -> Row:
    """A copy that shares nothing, on the SR or written into the disk `into`.

    Raises VDI_READONLY, VDI_TOO_SMALL [vdi, size] for `into`, and what VDI.create does.
    """
    async with operation(call, vdi, "copy", check_operation):
        check_managed(vdi)
        target = call.db.find("VDI", into)
        made = target is None
        if target is None:
            target = await _make_target(call, vdi, sr)
        try:
            _check_target(vdi, target)
            await _copy_data(call, vdi, target)
        except BaseException:
            if made and call.db.find("VDI", target.ref) is not None:
                await call_within(call, "VDI.destroy", target.ref)
            raise
    return target


async def _make_target(call: Call, vdi: Row, sr: str) -> Row:
    record = {
        **{name: vdi.fields[name] for name in _CARRIED if name not in ("on_boot", "allow_caching")},
        "SR": sr,
        "read_only": False,
        "sm_config": {},
        "virtual_size": str(vdi.virtual_size),
    }
    target = call.db.get("VDI", await call_within(call, "VDI.create", record))
    call.db.update(target, on_boot=vdi.on_boot, allow_caching=vdi.allow_caching)
    return target


def _check_target(vdi: Row, target: Row) -> None:
    if target.read_only:
        raise XapiError("VDI_READONLY", target.ref)
    if target.virtual_size < vdi.virtual_size:
        raise XapiError("VDI_TOO_SMALL", target.ref, str(vdi.virtual_size))


async def _copy_data(call: Call, vdi: Row, target: Row) -> None:
    kept = call.lab.storage
    sr = call.db.get("SR", target.SR)
    size = storage.used_bytes(call.lab, vdi)
    if sr.type not in storage.THICK:
        kept.check_room(sr, size)
    reader = await machine_for(call, call.db.get("SR", vdi.SR))
    writer = await machine_for(call, sr)
    async with opened(call, vdi, reader, "RO"), opened(call, target, writer, "RW"):
        await call.lab.clock.sleep(kept.times.copy + size / kept.times.copy_rate)
        call.check_cancelled()
        kept.copy_contents(vdi, target)


@asynccontextmanager
async def opened(call: Call, vdi: Row, machine: Machine, mode: Mode) -> AsyncIterator[None]:
    """Have the disk plugged into the machine's control domain while the block runs.

    Raises VDI_READONLY and what `disk_locks.attach` does.
    """
    if mode == "RW" and vdi.read_only:
        raise XapiError("VDI_READONLY", vdi.ref)
    vbd = _vbd_of_control_domain(call, vdi, machine, mode)
    user = f"{storage.TRANSFER}{vbd.uuid}"
    try:
        await disk_locks.attach(call.lab, vdi, machine, mode, user)
        call.db.update(vbd, currently_attached=True)
        refresh(call.lab, vdi)
        yield
    finally:
        call.db.delete(vbd)
        if call.db.find("VDI", vdi.ref) is not None:
            disk_locks.detach(call.lab, vdi, machine, user)
            _stamp(call, vdi, mode)
            refresh(call.lab, vdi)


def _vbd_of_control_domain(call: Call, vdi: Row, machine: Machine, mode: Mode) -> Row:
    dom0 = call.db.get("VM", machine.host.control_domain)
    number = devices.allowed(dom0, call.db.rows("VBD", dom0.VBDs))[0]
    return call.db.create(
        "VBD",
        VM=dom0.ref,
        VDI=vdi.ref,
        userdevice=number,
        mode=mode,
        type="Disk",
        other_config={"task_id": call.task, "related_to": NULL},
    )


def _stamp(call: Call, vdi: Row, mode: Mode) -> None:
    """Contents that may have changed get a new name (recorded: http_import_export)."""
    if mode == "RW" or "content_id" not in vdi.other_config:
        stamped = {**vdi.other_config, "content_id": str(uuids.uuid4())}
        call.db.update(vdi, other_config=stamped)


@message("VDI.revert")
async def revert(call: Call, snapshot: Row) -> str:
    """Not among the abilities of any driver here: SR_OPERATION_NOT_SUPPORTED [sr]."""
    sr = call.db.get("SR", snapshot.SR)
    if not snapshot.is_a_snapshot:
        raise XapiError("OPERATION_NOT_ALLOWED", f"VDI is not a snapshot: {snapshot.ref}")
    if "VDI_REVERT" not in sm.features(call.lab, sr):
        raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
    raise XapiError("NOT_IMPLEMENTED", "VDI.revert")
