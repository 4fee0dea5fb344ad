"""Storage drivers: which there are and what each can do (recorded: records_fresh_pool, sr_pbd)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

_SR = ("SR_ATTACH", "SR_DETACH", "SR_PROBE", "SR_SCAN", "SR_CREATE", "SR_DELETE")
_ATTACHING = ("VDI_ACTIVATE", "VDI_ATTACH", "VDI_DEACTIVATE", "VDI_DETACH")
_IMAGES = (
    "SR_UPDATE",
    "VDI_CLONE",
    "VDI_CONFIG_CBT",
    "VDI_CREATE",
    "VDI_DELETE",
    "VDI_GENERATE_CONFIG",
    "VDI_INTRODUCE",
    "VDI_MIRROR",
    "VDI_RESIZE",
    "VDI_SNAPSHOT",
    "VDI_UPDATE",
)
_VERSIONS = {"VDI_RESET_ON_BOOT": "2"}

_FULL = (*_SR, *_ATTACHING, *_IMAGES, "VDI_RESET_ON_BOOT")
_READ_ONLY = (*_SR, *_ATTACHING)


def _features(names: tuple[str, ...]) -> dict[str, str]:
    return {name: _VERSIONS.get(name, "1") for name in sorted(names)}


DRIVERS: Mapping[str, dict[str, str]] = {
    **{
        kind: _features(_FULL)
        for kind in ("dummy", "ext", "file", "lvm", "lvmohba", "lvmoiscsi", "nfs", "smb")
    },
    "iso": _features(_READ_ONLY),
    "udev": _features((*_READ_ONLY, "VDI_INTRODUCE")),
}
"""SR type → feature → version."""

_CONFIGURATION = {
    "dummy": {"location": "anything"},
    "ext": {"device": "device path"},
    "file": {"location": "path of the directory"},
    "iso": {"location": "path of the images", "type": "nfs_iso or cifs"},
    "lvm": {"device": "device path"},
    "lvmohba": {"SCSIid": "the LUN's id"},
    "lvmoiscsi": {"target": "address", "targetIQN": "name", "SCSIid": "the LUN's id"},
    "nfs": {"server": "hostname or address", "serverpath": "exported path"},
    "smb": {"server": "share", "username": "user", "password": "password"},
    "udev": {"location": "path of the devices"},
}


def make_drivers(lab: Lab) -> None:
    """Register the drivers that the pool's hosts have."""
    for kind, features in DRIVERS.items():
        lab.db.create(
            "SM",
            name_label=kind,
            name_description=f"SR plugin (simulated) for {kind}",
            type=kind,
            vendor="simulated",
            copyright="-",
            version="1.0",
            required_api_version="1.0",
            configuration=_CONFIGURATION[kind],
            capabilities=list(features),
            features=dict(features),
            driver_filename=f"/opt/xensource/sm/{kind}SR",
            supported_image_formats=["vhd", "qcow2", "raw"],
        )


def features(sr: Row) -> Mapping[str, str]:
    """What the SR's driver can do; nothing when there is no such driver."""
    return DRIVERS.get(sr.type, {})
