"""A device as libxl 4.17 writes it down, for devices that are plugged without xl.

In xenstore it has three nodes (libxl_device.c, libxl_disk.c, libxl_nic.c): the backend's, the frontend's, which
is the guest's own, and one below /libxl by which libxl knows what to save, move and destroy. It has the device's
configuration beside, as JSON, in the domain's `userdata`. Of the nodes only those are written that Linux' backends
or libxl read: each takes xenstored some milliseconds here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.spec import NO_SCRIPT, Disk, Vif
from deploy.xenlab.agent.transaction import Node

USERDATA = Path("/var/lib/xen")
BACKENDS = "/local/domain/0/backend"
# What the kernel's backends serve; a disk is held until its device is gone from here.
SERVED = Path("/sys/bus/xen-backend/devices")
# Major number of xvda, which has 16 minor numbers as each disk after it.
XVD, MINORS = 202, 16
INITIALISING = "1"
RATE_INTERVAL_US = 50_000


@dataclass(frozen=True)
class Device:
    """`kind`: `vbd` or `vif`. `told`: what both backend and libxl know of it; `kept`: libxl alone.

    `done`: what a hotplug script would write, for devices that need none.
    """

    kind: str
    number: int
    told: dict[str, str]
    kept: dict[str, str]
    frontend: dict[str, str]
    done: dict[str, str]
    entry: dict[str, Any]

    def nodes(self, domid: int) -> list[Node]:
        """All that xenstore has to hold of it."""
        backend, frontend, kept = paths(domid, self.kind, self.number)
        return [
            Node(kept, {"frontend": frontend, "backend": backend, **self.kept, **self.told}),
            Node(
                frontend,
                {"backend": backend, "backend-id": "0", "state": INITIALISING, **self.frontend},
                (f"n{domid}", "r0"),
            ),
            Node(
                backend,
                {
                    "frontend": frontend,
                    "frontend-id": str(domid),
                    "online": "1",
                    "state": INITIALISING,
                    **self.told,
                    **self.done,
                },
                ("n0", f"r{domid}"),
            ),
        ]


def paths(domid: int, kind: str, number: int) -> tuple[str, str, str]:
    """Backend, frontend, and what libxl keeps."""
    return (
        f"{BACKENDS}/{kind}/{domid}/{number}",
        f"/local/domain/{domid}/device/{kind}/{number}",
        f"/libxl/{domid}/device/{kind}/{number}",
    )


def disk_number(device: int) -> int:
    """What Xen calls a disk: xvda is 51712."""
    return XVD << 8 | device * MINORS


def of_disk(disk: Disk, path: str) -> Device:
    """`path` is dom0's block device; raises OSError when it is not there."""
    number = disk_number(disk.device)
    node = Path(path).stat().st_rdev
    return Device(
        kind="vbd",
        number=number,
        told={
            "params": path,
            "dev": disk.name,
            "mode": "r" if disk.read_only else "w",
            "device-type": "disk",
        },
        kept={"script": NO_SCRIPT, "removable": "0", "type": "phy", "specification": "xen"},
        frontend={"virtual-device": str(number), "device-type": "disk"},
        done={
            "physical-device": f"{os.major(node):x}:{os.minor(node):x}",
            "hotplug-status": "connected",
        },
        entry={
            "pdev_path": path,
            "vdev": disk.name,
            "format": "raw",
            "script": NO_SCRIPT,
            "readwrite": 0 if disk.read_only else 1,
        },
    )


def of_vif(vif: Vif) -> Device:
    """Hung on its bridge by hotplug.py, once the kernel made it."""
    bytes_each = (vif.kbps or 0) * 1000 * RATE_INTERVAL_US // 1_000_000
    limits = {"rate_bytes_per_interval": bytes_each, "rate_interval_usecs": RATE_INTERVAL_US}
    return Device(
        kind="vif",
        number=vif.device,
        told={
            "script": NO_SCRIPT,
            "mac": vif.mac,
            **({"rate": f"{bytes_each},{RATE_INTERVAL_US}"} if vif.kbps else {}),
            "bridge": vif.bridge,
            "handle": str(vif.device),
        },
        kept={"type": "vif"},
        frontend={"handle": str(vif.device), "mac": vif.mac},
        done={},
        entry={
            "devid": vif.device,
            "mac": vif.mac,
            "bridge": vif.bridge,
            "script": NO_SCRIPT,
            "nictype": "vif",
            **(limits if vif.kbps else {}),
        },
    )


def add(domid: int, identity: str, devices: list[Device]) -> None:
    """Into the domain's configuration."""

    def change(known: dict[str, Any]) -> None:
        for device in devices:
            known.setdefault(_list_of(device.kind), []).append(device.entry)

    _rewrite(domid, identity, change)


def remove(domid: int, identity: str, disks: list[Disk], vifs: list[Vif]) -> None:
    """Out of the domain's configuration."""
    names, macs = {disk.name for disk in disks}, {vif.mac for vif in vifs}

    def change(known: dict[str, Any]) -> None:
        known["disks"] = [one for one in known.get("disks", []) if one["vdev"] not in names]
        known["nics"] = [one for one in known.get("nics", []) if one["mac"] not in macs]

    _rewrite(domid, identity, change)


def rehang(domid: int, identity: str, vif: Vif) -> None:
    """Puts an interface's bridge into the domain's configuration."""

    def change(known: dict[str, Any]) -> None:
        for nic in known.get("nics", []):
            if nic["mac"] == vif.mac:
                nic["bridge"] = vif.bridge

    _rewrite(domid, identity, change)


def keep(domid: int, identity: str, configuration: dict[str, Any]) -> None:
    """A domain's configuration, the way libxl keeps it: a new file beside, then in place of the old one."""
    new = _file(domid, identity, "n")
    # libxl reads it with the NUL that it writes.
    new.write_bytes(json.dumps(configuration).encode() + b"\0")
    new.replace(_file(domid, identity, "d"))


def forget(domid: int, identity: str) -> None:
    """All that libxl's programs keep of a domain."""
    for file in USERDATA.glob(f"userdata-?.{domid}.{identity}.*"):
        file.unlink(missing_ok=True)


def _file(domid: int, identity: str, kind: str) -> Path:
    return USERDATA / f"userdata-{kind}.{domid}.{identity}.libxl-json"


def _list_of(kind: str) -> str:
    return "disks" if kind == "vbd" else "nics"


def _rewrite(domid: int, identity: str, change: Callable[[dict[str, Any]], None]) -> None:
    try:
        known = json.loads(_file(domid, identity, "d").read_bytes().rstrip(b"\0"))
    except FileNotFoundError as missing:
        raise AgentError("no_configuration", f"libxl keeps none of {identity}") from missing
    change(known)
    keep(domid, identity, known)
