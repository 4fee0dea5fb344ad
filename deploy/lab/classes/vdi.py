"""Virtual disks: making, destroying, resizing, and telling the database of them.

Facts: FACTS 7, xen-api xapi_vdi.ml, sm FileSR.py; recorded: vdi_create_sizes,
vdi_clone_snapshot, sr_pbd, event_vm_life.
"""

from __future__ import annotations

import re
import uuid as uuids
from datetime import datetime
from typing import Any

from deploy.lab import storage
from deploy.lab.classes import sr_operations
from deploy.lab.classes.storage_hosts import machine_for
from deploy.lab.classes.vdi_operations import check_operation, held
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import subtask
from deploy.lab.generic import constructor_values
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@message("VDI.create")
async def create(call: Call, record: dict[str, Any]) -> str:
    return (await make(call, **constructor_values(call.message, record))).ref


async def make(call: Call, **values: Any) -> Row:
    """A new disk. `values` are the fields of VDI.create; sizes in bytes.

    Raises HANDLE_INVALID, SR_OPERATION_NOT_SUPPORTED, SR_HAS_NO_PBDS, VDI_INCOMPATIBLE_TYPE,
    SR_BACKEND_FAILURE_79 (size), SR_BACKEND_FAILURE_44 (no room).
    """
    sr = call.db.get("SR", values["SR"])
    async with operation(call, sr, "vdi_create", sr_operations.check_operation):
        if values["type"] == "cbt_metadata":
            raise XapiError("VDI_INCOMPATIBLE_TYPE", "", "cbt_metadata")
        await machine_for(call, sr)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.create):
            call.lab.storage.check_told_to_fail(sr, "vdi_create")
            size = rounded(values["virtual_size"])
            used = call.lab.storage.size(sr, size)
            call.lab.storage.check_room(sr, used)
            # Backends know no read-only disks and answer so (recorded: vdi_create_sizes).
            fields = {**values, "virtual_size": size, "read_only": False}
            vdi = introduce(call, physical_utilisation=used, **fields)
            call.lab.storage.known.remember(sr, vdi)
            call.lab.storage.account(sr, virtual=size, physical=used)
    return vdi


def rounded(size: int) -> int:
    """The virtual size that a backend makes of a wanted one, in bytes."""
    if not 1 <= size <= storage.LARGEST_DISK:
        largest = storage.LARGEST_DISK // storage.MIB
        text = f"VDI Invalid size [opterr=VDI size must be between 1 MB and {largest} MB]"
        raise storage.backend_failure(79, text)
    return -(-size // storage.ALLOCATION) * storage.ALLOCATION


def introduce(call: Call, **fields: Any) -> Row:
    """Tell the database of a disk, as the backend does by a call of its own."""
    fields.setdefault("uuid", str(uuids.uuid4()))
    with subtask(call, "VDI.db_introduce"):
        vdi = call.db.create("VDI", **{"managed": True, "location": fields["uuid"], **fields})
        refresh(call.lab, vdi)
    return vdi


@message("VDI.destroy")
async def destroy(call: Call, vdi: Row) -> None:
    async with held(call, vdi, "destroy", "vdi_destroy") as sr:
        await machine_for(call, sr)
        check_managed(vdi)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.destroy):
            call.lab.storage.check_told_to_fail(sr, "vdi_delete")
            remove(call, sr, vdi)


def remove(call: Call, sr: Row, vdi: Row) -> None:
    """Delete the disk, the VBDs that point at it, and what it takes of the SR."""
    vbds = call.db.rows("VBD", vdi.VBDs)
    kept = call.lab.storage
    used, size = kept.physical(sr, vdi), vdi.virtual_size
    with subtask(call, "VDI.db_forget"):
        call.db.delete(vdi)
    kept.account(sr, virtual=-size, physical=-used)
    kept.known.destroyed(sr, vdi)
    kept.dropped(sr, vdi.uuid)
    for vbd in vbds:
        call.db.delete(vbd)
    if vdi.type == "suspend":
        for vm in call.db.all("VM"):
            if vm.suspend_VDI == vdi.ref:
                call.db.update(vm, suspend_VDI=NULL)


def check_managed(vdi: Row) -> None:
    if not vdi.managed:
        raise XapiError("VDI_NOT_MANAGED", vdi.ref)


@message("VDI.resize")
async def resize(call: Call, vdi: Row, size: int) -> None:
    async with held(call, vdi, "resize", "vdi_resize") as sr:
        await machine_for(call, sr)
        check_managed(vdi)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.resize):
            call.lab.storage.check_told_to_fail(sr, "vdi_resize")
            new = _resized(vdi, size)
            grown = new - vdi.virtual_size
            more = call.lab.storage.size(sr, new) - call.lab.storage.size(sr, vdi.virtual_size)
            call.lab.storage.check_room(sr, more)
            call.db.update(vdi, virtual_size=new)
            call.db.update(vdi, physical_utilisation=call.lab.storage.physical(sr, vdi))
            call.lab.storage.known.remember(sr, vdi)
            call.lab.storage.account(sr, virtual=grown, physical=more)


def _resized(vdi: Row, size: int) -> int:
    if size < 0:
        inner = "['INTERNAL_ERROR', 'Failure(\"Int64.of_string\")']"
        raise storage.backend_failure(47, f"The SR is not available [opterr={inner}]")
    if size < vdi.virtual_size:
        raise storage.backend_failure(79, "VDI Invalid size [opterr=shrinking not allowed]")
    return rounded(size)


# --- database and backend apart


@message("VDI.forget")
async def forget(call: Call, vdi: Row) -> None:
    """Take the disk from the database only: a scan of its SR finds it again."""
    async with operation(call, vdi, "forget", check_operation):
        sr = call.db.get("SR", vdi.SR)
        call.lab.storage.known.remember(sr, vdi)
        used = call.lab.storage.physical(sr, vdi)
        call.lab.storage.account(sr, virtual=-vdi.virtual_size, physical=-used)
        call.db.delete(vdi)


@message("VDI.introduce")
async def introduce_existing(
    call: Call,
    uuid: str,
    name_label: str,
    name_description: str,
    sr_ref: str,
    kind: str,
    sharable: bool,
    read_only: bool,
    other_config: dict[str, str],
    location: str,
    xenstore_data: dict[str, str],
    sm_config: dict[str, str],
    *rest: Any,
) -> str:
    sr = call.db.get("SR", sr_ref)
    async with operation(call, sr, "vdi_introduce", sr_operations.check_operation):
        await machine_for(call, sr)
        for vdi in call.db.rows("VDI", sr.VDIs):
            if vdi.location == location and vdi.uuid != uuid:
                raise XapiError("LOCATION_NOT_UNIQUE", sr.ref, location)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.update):
            found = _introduced(call, sr, uuid, location)
        names = {"name_label": name_label, "name_description": name_description}
        call.db.update(
            found,
            other_config=other_config,
            xenstore_data=xenstore_data,
            sharable=sharable,
            type=kind,
            **{name: value for name, value in names.items() if value},
        )
        refresh(call.lab, found)
    return found.ref


def _introduced(call: Call, sr: Row, uuid: str, location: str) -> Row:
    kept = call.lab.storage
    known = kept.known.find(sr, uuid, location)
    if known is not None:
        vdi = introduce(call, SR=sr.ref, **known)
        kept.account(sr, virtual=vdi.virtual_size, physical=kept.physical(sr, vdi))
        return vdi
    if sr.type == "udev":
        fields = {"uuid": uuid or str(uuids.uuid4()), "location": location, "type": "user"}
        return introduce(call, SR=sr.ref, **fields)
    raise storage.unavailable(f"{location or uuid} not found")


@message("VDI.pool_introduce")
def pool_introduce(
    call: Call,
    uuid: str,
    name_label: str,
    name_description: str,
    sr_ref: str,
    kind: str,
    sharable: bool,
    read_only: bool,
    other_config: dict[str, str],
    location: str,
    xenstore_data: dict[str, str],
    sm_config: dict[str, str],
    managed: bool,
    virtual_size: int,
    physical_utilisation: int,
    metadata_of_pool: str,
    is_a_snapshot: bool,
    snapshot_time: datetime,
    snapshot_of: str,
    cbt_enabled: bool,
) -> str:
    """The database's side of an introduction alone, for pools that have the disk elsewhere."""
    sr = call.db.get("SR", sr_ref)
    if any(vdi.location == location for vdi in call.db.rows("VDI", sr.VDIs)):
        raise XapiError("LOCATION_NOT_UNIQUE", sr.ref, location)
    if not _UUID.fullmatch(uuid):
        raise XapiError("UUID_INVALID", "VDI", uuid)
    vdi = call.db.create(
        "VDI",
        uuid=uuid,
        name_label=name_label,
        name_description=name_description,
        SR=sr.ref,
        type=kind,
        sharable=sharable,
        read_only=read_only,
        other_config=other_config,
        location=location,
        xenstore_data=xenstore_data,
        sm_config=sm_config,
        managed=managed,
        virtual_size=virtual_size,
        physical_utilisation=physical_utilisation,
        metadata_of_pool=metadata_of_pool,
        is_a_snapshot=is_a_snapshot,
        snapshot_time=snapshot_time,
        snapshot_of=snapshot_of,
        cbt_enabled=cbt_enabled,
    )
    refresh(call.lab, vdi)
    return vdi.ref


@message("VDI.update")
async def update(call: Call, vdi: Row) -> None:
    async with operation(call, vdi, "update", check_operation):
        await update_from_backend(call, vdi)


async def update_from_backend(call: Call, vdi: Row) -> None:
    """Read the disk's record back from its SR. Raises SR_HAS_NO_PBDS."""
    sr = call.db.get("SR", vdi.SR)
    await machine_for(call, sr)
    async with call.lab.storage.working(sr.ref, call.lab.storage.times.update):
        if sr.type != "iso":
            call.lab.storage.settle(vdi)
