"""What may be done to an SR now (xen-api xapi_sr_operations.ml; recorded: sr_pbd)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.classes import sm
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.operations import allowed_operations

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

OPERATIONS = (
    "vdi_enable_cbt",
    "vdi_list_changed_blocks",
    "vdi_introduce",
    "unplug",
    "plug",
    "pbd_create",
    "vdi_disable_cbt",
    "update",
    "pbd_destroy",
    "vdi_resize",
    "forget",
    "destroy",
    "vdi_clone",
    "vdi_data_destroy",
    "scan",
    "vdi_snapshot",
    "vdi_mirror",
    "vdi_create",
    "vdi_destroy",
    "vdi_set_on_boot",
)
"""Operations that allowed_operations tells of."""

_FEATURES = {
    "vdi_create": "VDI_CREATE",
    "vdi_destroy": "VDI_DELETE",
    "vdi_resize": "VDI_RESIZE",
    "vdi_introduce": "VDI_INTRODUCE",
    "vdi_mirror": "VDI_MIRROR",
    "vdi_enable_cbt": "VDI_CONFIG_CBT",
    "vdi_disable_cbt": "VDI_CONFIG_CBT",
    "vdi_data_destroy": "VDI_CONFIG_CBT",
    "vdi_list_changed_blocks": "VDI_CONFIG_CBT",
    "vdi_set_on_boot": "VDI_RESET_ON_BOOT",
    "vdi_revert": "VDI_REVERT",
    "update": "SR_UPDATE",
    "vdi_snapshot": "VDI_SNAPSHOT",
}
"""Operation → the driver's feature that it needs. A clone the daemon can always fake."""


def check_operation(lab: Lab, sr: Row, name: str) -> None:
    """Raise what forbids the operation on the SR now."""
    feature = _FEATURES.get(name)
    hidden = sr.is_tools_sr and feature in ("VDI_CREATE", "VDI_DELETE")
    if feature is not None and (hidden or feature not in sm.features(lab, sr)):
        raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
    if name in ("destroy", "forget") and has_plugged_pbds(lab, sr):
        raise XapiError("SR_HAS_PBD", sr.ref)
    if name == "destroy" and not sr.PBDs:
        raise XapiError("SR_NO_PBDS", sr.ref)
    if name == "destroy" and _has_disks(lab, sr):
        raise XapiError("SR_NOT_EMPTY")
    for task, current in sr.current_operations.items():
        raise XapiError("OTHER_OPERATION_IN_PROGRESS", "SR", sr.ref, current, task)


def has_plugged_pbds(lab: Lab, sr: Row) -> bool:
    return any(pbd.currently_attached for pbd in lab.db.rows("PBD", sr.PBDs))


def _has_disks(lab: Lab, sr: Row) -> bool:
    return any(vdi.managed and vdi.type != "rrd" for vdi in lab.db.rows("VDI", sr.VDIs))


@allowed_operations("SR")
def allowed(lab: Lab, sr: Row) -> list[str]:
    if sr.current_operations:
        return []
    return [name for name in OPERATIONS if _is_valid(lab, sr, name)]


def _is_valid(lab: Lab, sr: Row, name: str) -> bool:
    try:
        check_operation(lab, sr, name)
    except XapiError:
        return False
    return True
