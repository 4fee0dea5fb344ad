"""Storage of a fresh pool: the kinds there are, a shared SR, an ISO library, each host's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

TIB = 1024**4
ISO_SIZE = 650 * 1024**2
ISOS = ("debian-12.iso", "guest-tools.iso", "windows-server-2022.iso")

_ALL = """
    SR_ATTACH SR_CREATE SR_DELETE SR_DETACH SR_PROBE SR_SCAN SR_UPDATE VDI_ACTIVATE VDI_ATTACH
    VDI_CLONE VDI_CONFIG_CBT VDI_CREATE VDI_DEACTIVATE VDI_DELETE VDI_DETACH VDI_GENERATE_CONFIG
    VDI_INTRODUCE VDI_MIRROR VDI_RESET_ON_BOOT VDI_RESIZE VDI_SNAPSHOT VDI_UPDATE
"""
_OF_ISOS = "SR_ATTACH SR_CREATE SR_DETACH SR_SCAN VDI_ACTIVATE VDI_ATTACH VDI_DEACTIVATE VDI_DETACH"
FEATURES = dict.fromkeys(
    ["dummy", "ext", "file", "lvm", "lvmohba", "lvmoiscsi", "nfs", "smb"], _ALL.split()
) | {"iso": _OF_ISOS.split(), "udev": [*_OF_ISOS.split(), "VDI_INTRODUCE"]}
"""Type of SR → what its backend can do."""

CONFIGURATION = {
    "nfs": {"server": "address of the server", "serverpath": "path it exports"},
    "iso": {"location": "path to mount"},
    "ext": {"device": "block device to format"},
    "lvm": {"device": "block device to use"},
}


def make_storage_plugins(lab: Lab) -> None:
    for kind, features in FEATURES.items():
        versions = {name: 2 if name == "VDI_RESET_ON_BOOT" else 1 for name in features}
        lab.db.create(
            "SM",
            name_label=kind,
            name_description=f"SR plugin (simulated) for {kind}",
            type=kind,
            vendor="simulated",
            copyright="-",
            version="1.0",
            required_api_version="1.0",
            configuration=CONFIGURATION.get(kind, {"location": "anything"}),
            capabilities=features,
            features=versions,
            driver_filename=f"/opt/xensource/sm/{kind}SR",
            supported_image_formats=["vhd", "qcow2", "raw"],
        )


def make_storage(lab: Lab, hosts: list[Row]) -> Row:
    """Every SR with its PBDs; answers the shared one."""
    shared = _sr(lab, "Shared NFS", "nfs", lab.config.shared_storage, shared=True)
    server = {"server": "192.0.2.250", "serverpath": "/srv/nfs"}
    _plug(lab, shared, hosts, server)
    library = _sr(lab, "ISO library", "iso", 2 * TIB, content="iso", shared=True)
    _plug(lab, library, hosts, {"location": "192.0.2.250:/srv/iso"})
    for name in ISOS:
        _iso(lab, library, name)
    for host in hosts:
        local = _sr(lab, "Local storage", "ext", lab.config.local_storage)
        _plug(lab, local, [host], {"device": "/dev/sda3"})
        drives = _sr(lab, "DVD drives", "udev", 2 * TIB, content="iso")
        _plug(lab, drives, [host], {"location": "/dev/xapi/cd"})
    return shared


def _sr(
    lab: Lab, label: str, kind: str, size: int, *, content: str = "user", shared: bool = False
) -> Row:
    return lab.db.create(
        "SR",
        name_label=label,
        type=kind,
        content_type=content,
        shared=shared,
        physical_size=size,
    )


def _plug(lab: Lab, sr: Row, hosts: list[Row], device_config: dict[str, str]) -> None:
    for host in hosts:
        lab.db.create(
            "PBD",
            host=host.ref,
            SR=sr.ref,
            currently_attached=True,
            device_config=device_config,
        )


def _iso(lab: Lab, library: Row, name: str) -> None:
    lab.db.create(
        "VDI",
        name_label=name,
        SR=library.ref,
        virtual_size=ISO_SIZE,
        physical_utilisation=ISO_SIZE,
        type="user",
        read_only=True,
        location=name,
        managed=True,
    )
    lab.db.update(
        library,
        virtual_allocation=library.virtual_allocation + ISO_SIZE,
        physical_utilisation=library.physical_utilisation + ISO_SIZE,
    )
