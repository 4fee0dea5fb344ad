"""What may be done to a VDI now, and holding it and its SR while it is done.

Facts: FACTS 7, xen-api xapi_vdi.ml; recorded: vdi_in_use, vdi_clone_snapshot, sr_pbd.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deploy.lab.classes import sm, sr_operations
from deploy.lab.database import Row
from deploy.lab.dispatch import Call
from deploy.lab.errors import XapiError
from deploy.lab.operations import allowed_operations, operation

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

OPERATIONS = (
    "copy",
    "generate_config",
    "clone",
    "forget",
    "update",
    "resize",
    "snapshot",
    "destroy",
)
"""Operations that allowed_operations tells of: those that old releases knew."""

_FEATURES = {
    "snapshot": "VDI_SNAPSHOT",
    "destroy": "VDI_DELETE",
    "resize": "VDI_RESIZE",
    "update": "VDI_UPDATE",
    "generate_config": "VDI_GENERATE_CONFIG",
    "clone": "VDI_CLONE",
    "mirror": "VDI_MIRROR",
    "enable_cbt": "VDI_CONFIG_CBT",
    "disable_cbt": "VDI_CONFIG_CBT",
    "data_destroy": "VDI_CONFIG_CBT",
    "list_changed_blocks": "VDI_CONFIG_CBT",
    "set_on_boot": "VDI_RESET_ON_BOOT",
    "revert_to": "VDI_REVERT",
    "revert_from": "VDI_REVERT",
}
_WHILE_ATTACHED = frozenset(
    {
        "snapshot",
        "clone",
        "mirror",
        "enable_cbt",
        "disable_cbt",
        "data_destroy",
        "blocked",
        "revert_from",
    }
)
_WHILE_READ = _WHILE_ATTACHED | {"copy"}
_NOT_ON_CBT_METADATA = frozenset(
    {
        "clone",
        "copy",
        "disable_cbt",
        "enable_cbt",
        "mirror",
        "resize",
        "snapshot",
        "set_on_boot",
        "revert_to",
        "revert_from",
    }
)
_NOT_WITH_CBT = frozenset({"mirror", "set_on_boot", "revert_to", "revert_from"})
_OF_HA = frozenset({"ha_statefile", "redo_log"})


def check_operation(lab: Lab, vdi: Row, name: str) -> None:
    """Raise what forbids the operation on the VDI now, in the daemon's order."""
    _check_busy(vdi, name)
    sr = lab.db.get("SR", vdi.SR)
    if name == "resize" and not sr_operations.has_plugged_pbds(lab, sr):
        raise XapiError("SR_NO_PBDS", sr.ref)
    _check_attached(lab, vdi, name)
    feature = _FEATURES.get(name)
    if feature is not None and feature not in sm.features(lab, sr):
        raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
    if vdi.type == "cbt_metadata" and name in _NOT_ON_CBT_METADATA:
        raise XapiError("VDI_INCOMPATIBLE_TYPE", vdi.ref, vdi.type)
    if vdi.cbt_enabled and name in _NOT_WITH_CBT:
        raise XapiError("VDI_CBT_ENABLED", vdi.ref)
    _check_kind(lab, vdi, sr, name)


def _check_busy(vdi: Row, name: str) -> None:
    current = vdi.current_operations
    if name == "destroy" and "mirror" in current.values():
        return
    for task, other in current.items():
        if other != "copy":
            raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi.ref, other, task)


def _check_attached(lab: Lab, vdi: Row, name: str) -> None:
    vbds = lab.db.rows("VBD", vdi.VBDs)
    active = [vbd for vbd in vbds if vbd.currently_attached or vbd.reserved]
    if name in _WHILE_ATTACHED:
        active = []
    elif name in _WHILE_READ:
        active = [vbd for vbd in active if vbd.mode == "RW"]
    elif name == "list_changed_blocks":
        active = [vbd for vbd in active if not _of_snapshot(lab, vbd)]
    if active:
        raise XapiError("VDI_IN_USE", vdi.ref, name)
    if name == "data_destroy":
        return
    for vbd in vbds:
        for task, other in vbd.current_operations.items():
            raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VDI", vdi.ref, other, task)


def _of_snapshot(lab: Lab, vbd: Row) -> bool:
    vm = lab.db.find("VM", vbd.VM)
    return vm is not None and bool(vm.is_a_snapshot)


def _check_kind(lab: Lab, vdi: Row, sr: Row, name: str) -> None:
    if name == "data_destroy":
        if not vdi.is_a_snapshot:
            raise XapiError("OPERATION_NOT_ALLOWED", f"VDI is not a snapshot: {vdi.ref}")
        if not vdi.cbt_enabled:
            raise XapiError("VDI_NO_CBT_METADATA", vdi.ref)
    if name in ("destroy", "data_destroy"):
        if sr.type == "udev":
            raise XapiError("VDI_IS_A_PHYSICAL_DEVICE", vdi.ref)
        if sr.is_tools_sr:
            raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
    if name in ("destroy", "data_destroy", "forget") and vdi.type == "rrd":
        raise XapiError("VDI_HAS_RRDS", vdi.ref)
    for_ha = vdi.type in _OF_HA and lab.pool.ha_enabled
    if for_ha and name in ("destroy", "data_destroy", "forget", "resize"):
        raise XapiError("HA_IS_ENABLED")
    if name == "snapshot":
        _check_snapshot(vdi)
    if name == "copy" and vdi.on_boot == "reset":
        raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
    if name == "copy" and vdi.type in _OF_HA:
        text = (
            "VDI containing HA statefile or redo log cannot be copied"
            " (check the VDI's allowed operations)."
        )
        raise XapiError("OPERATION_NOT_ALLOWED", text)
    if name in ("enable_cbt", "disable_cbt"):
        _check_cbt(vdi)


def _check_snapshot(vdi: Row) -> None:
    if vdi.sharable:
        raise XapiError("VDI_IS_SHARABLE", vdi.ref)
    if vdi.on_boot == "reset":
        raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
    if "copy" in vdi.current_operations.values():
        raise XapiError("OPERATION_NOT_ALLOWED", "Snapshot operation not allowed during copy.")


def _check_cbt(vdi: Row) -> None:
    if vdi.is_a_snapshot:
        raise XapiError("OPERATION_NOT_ALLOWED", f"VDI is a snapshot: {vdi.ref}")
    if vdi.type not in ("user", "system"):
        raise XapiError("VDI_INCOMPATIBLE_TYPE", vdi.ref, vdi.type)
    if vdi.on_boot == "reset":
        raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")


@allowed_operations("VDI")
def allowed(lab: Lab, vdi: Row) -> list[str]:
    return [name for name in OPERATIONS if _is_valid(lab, vdi, name)]


def _is_valid(lab: Lab, vdi: Row, name: str) -> bool:
    try:
        check_operation(lab, vdi, name)
    except XapiError:
        return False
    return True


@asynccontextmanager
async def held(call: Call, vdi: Row, name: str, sr_operation: str) -> AsyncIterator[Row]:
    """Hold an operation on the VDI and the matching one on its SR; answers the SR."""
    sr = call.db.get("SR", vdi.SR)
    async with (
        operation(call, sr, sr_operation, sr_operations.check_operation),
        operation(call, vdi, name, check_operation),
    ):
        yield sr
