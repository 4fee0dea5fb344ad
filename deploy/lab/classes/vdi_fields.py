"""Setters of VDIs with a meaning of their own, change tracking, and what only backends may write.

Facts: xen-api xapi_vdi.ml, message_forwarding.ml; recorded: vdi_clone_snapshot, vdi_in_use.
"""

from __future__ import annotations

import hashlib
from typing import Any

from deploy.lab import storage
from deploy.lab.classes.storage_hosts import machine_for
from deploy.lab.classes.vdi import check_managed, update_from_backend
from deploy.lab.classes.vdi_copies import opened
from deploy.lab.classes.vdi_operations import check_operation, held
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.operations import operation, refresh


@message(
    "VDI.set_managed",
    "VDI.set_read_only",
    "VDI.set_sharable",
    "VDI.set_missing",
    "VDI.set_virtual_size",
    "VDI.set_physical_utilisation",
    "VDI.set_is_a_snapshot",
    "VDI.set_snapshot_of",
    "VDI.set_snapshot_time",
    "VDI.set_metadata_of_pool",
    "VDI.set_cbt_enabled",
)
def set_by_backends_only(call: Call, vdi: Row, value: Any) -> None:
    """Refused to clients whatever their role (recorded: vdi_clone_snapshot, vdi_in_use)."""
    raise XapiError("PERMISSION_DENIED", "")


@message("VDI.db_introduce")
def db_introduce(call: Call, *fields: Any) -> str:
    raise XapiError("PERMISSION_DENIED", "")


@message("VDI.db_forget")
def db_forget(call: Call, vdi: Row) -> None:
    raise XapiError("PERMISSION_DENIED", "")


@message("VDI.set_name_label")
async def set_name_label(call: Call, vdi: Row, value: str) -> None:
    await _rename(call, vdi, name_label=value)


@message("VDI.set_name_description")
async def set_name_description(call: Call, vdi: Row, value: str) -> None:
    await _rename(call, vdi, name_description=value)


async def _rename(call: Call, vdi: Row, **names: str) -> None:
    await update_from_backend(call, vdi)
    call.db.update(vdi, **names)
    call.lab.storage.known.remember(call.db.get("SR", vdi.SR), vdi)


@message("VDI.set_on_boot")
async def set_on_boot(call: Call, vdi: Row, value: str) -> None:
    _check_vms_halted(call, vdi)
    async with held(call, vdi, "set_on_boot", "vdi_set_on_boot") as sr:
        await machine_for(call, sr)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.update):
            if value == "reset" and vdi.on_boot != "reset":
                call.lab.storage.freeze(vdi)
            elif value == "persist":
                call.lab.storage.blocks.get(vdi.uuid).pinned = False
        call.db.update(vdi, on_boot=value)


@message("VDI.set_allow_caching")
def set_allow_caching(call: Call, vdi: Row, value: bool) -> None:
    _check_vms_halted(call, vdi)
    call.db.update(vdi, allow_caching=value)


def _check_vms_halted(call: Call, vdi: Row) -> None:
    for vbd in call.db.rows("VBD", vdi.VBDs):
        vm = call.db.find("VM", vbd.VM)
        if vm is not None and vm.power_state != "Halted":
            raise XapiError("VM_BAD_POWER_STATE", vm.ref, "halted", vm.power_state.lower())


@message("VDI.force_unlock")
def force_unlock(call: Call, vdi: Row) -> None:
    raise XapiError("MESSAGE_DEPRECATED")


@message("VDI.generate_config")
async def generate_config(call: Call, host: str, vdi: Row | str) -> str:
    disk = call.db.get("VDI", vdi) if isinstance(vdi, str) else vdi
    async with operation(call, disk, "generate_config", check_operation):
        await machine_for(call, call.db.get("SR", disk.SR))
        check_managed(disk)
    return f"<config><vdi>{disk.uuid}</vdi></config>"


@message("VDI.checksum")
async def checksum(call: Call, vdi: Row) -> str:
    """The MD5 of the whole disk, in hexadecimal."""
    machine = await machine_for(call, call.db.get("SR", vdi.SR))
    digest = hashlib.md5(usedforsecurity=False)
    async with opened(call, vdi, machine, "RO"):
        for offset in range(0, vdi.virtual_size, storage.MIB):
            length = min(storage.MIB, vdi.virtual_size - offset)
            digest.update(call.lab.storage.read(vdi, offset, length))
            await call.lab.clock.sleep(0)
    return digest.hexdigest()


@message("VDI.open_database")
def open_database(call: Call, vdi: Row) -> str:
    if vdi.type != "metadata":
        raise XapiError("VDI_INCOMPATIBLE_TYPE", vdi.ref, vdi.type)
    raise XapiError("COULD_NOT_IMPORT_DATABASE", "Database does not match local schema.")


@message("VDI.read_database_pool_uuid")
def read_database_pool_uuid(call: Call, vdi: Row) -> str:
    return ""


@message("VDI.get_nbd_info")
def get_nbd_info(call: Call, vdi: Row) -> list[dict[str, Any]]:
    """No network here allows NBD."""
    return []


# --- changed block tracking


@message("VDI.enable_cbt")
async def enable_cbt(call: Call, vdi: Row) -> None:
    await _set_cbt(call, vdi, "enable_cbt", enabled=True)


@message("VDI.disable_cbt")
async def disable_cbt(call: Call, vdi: Row) -> None:
    await _set_cbt(call, vdi, "disable_cbt", enabled=False)


async def _set_cbt(call: Call, vdi: Row, name: str, *, enabled: bool) -> None:
    async with held(call, vdi, name, f"vdi_{name}") as sr:
        await machine_for(call, sr)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.update):
            call.db.update(vdi, cbt_enabled=enabled)


@message("VDI.data_destroy")
async def data_destroy(call: Call, vdi: Row) -> None:
    """Keep only which blocks had changed. Raises VDI_IN_USE while any VBD points at the disk."""
    async with held(call, vdi, "data_destroy", "vdi_data_destroy") as sr:
        await machine_for(call, sr)
        check_managed(vdi)
        if vdi.VBDs:
            raise XapiError("VDI_IN_USE", vdi.ref, "data_destroy")
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.destroy):
            used = call.lab.storage.physical(sr, vdi)
            call.lab.storage.dropped(sr, vdi.uuid)
            call.lab.storage.account(sr, virtual=-vdi.virtual_size, physical=-used)
            call.db.update(vdi, type="cbt_metadata", virtual_size=0, physical_utilisation=0)
    refresh(call.lab, vdi)


@message("VDI.list_changed_blocks")
async def list_changed_blocks(call: Call, vdi_from: Row, vdi_to: str) -> str:
    """NOT_IMPLEMENTED beyond the daemon's checks: contents carry no change log here."""
    async with held(call, vdi_from, "list_changed_blocks", "vdi_list_changed_blocks"):
        if not vdi_from.cbt_enabled:
            raise XapiError("VDI_NO_CBT_METADATA", vdi_from.ref)
        call.db.get("VDI", vdi_to)
        raise XapiError("NOT_IMPLEMENTED", "VDI.list_changed_blocks")
