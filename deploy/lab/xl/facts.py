"""What a guest wrote into xenstore, as XAPI shows it (xapi_guest_agent.ml of xen-api).

Kernel: control/feature-*. Guest agent: attr/PVAddons, attr/vif/N/ipv4/M, data/os_*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OS = {
    "data/os_name": "name",
    "data/os_uname": "uname",
    "data/os_distro": "distro",
    "data/os_majorver": "major",
    "data/os_minorver": "minor",
}
_DRIVERS = {
    "attr/PVAddons/MajorVersion": "major",
    "attr/PVAddons/MinorVersion": "minor",
    "attr/PVAddons/MicroVersion": "micro",
    "attr/PVAddons/BuildVersion": "build",
}
_ADDRESS = re.compile(r"attr/vif/(\d+)/(ipv[46]/\d+)")
_OLD_ADDRESS = re.compile(r"attr/eth(\d+)/ip")
FEATURE = "control/feature-"


def guest_metrics(values: Mapping[str, str]) -> dict[str, Any]:
    """Fields of VM_guest_metrics. `values`: path below the domain's own → value."""
    networks = {}
    for path, value in values.items():
        if match := _ADDRESS.fullmatch(path):
            networks[f"{match[1]}/{match[2]}"] = value
            if match[2] == "ipv4/0":
                networks[f"{match[1]}/ip"] = value
        elif match := _OLD_ADDRESS.fullmatch(path):
            networks[f"{match[1]}/ip"] = value
    drivers = _named(values, _DRIVERS)
    return {
        "PV_drivers_detected": is_up(values),
        "PV_drivers_version": drivers,
        "PV_drivers_up_to_date": bool(drivers),
        "os_version": _named(values, _OS),
        "networks": networks,
        "other": {
            path.removeprefix("control/"): value
            for path, value in values.items()
            if path.startswith(FEATURE) and value
        },
        "live": True,
    }


def is_up(values: Mapping[str, str]) -> bool:
    """Whether the guest's kernel has spoken to its hypervisor. libxl makes the nodes, empty."""
    return any(
        value and path.startswith((FEATURE, "attr/", "data/")) for path, value in values.items()
    )


def _named(values: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {names[path]: value for path, value in values.items() if path in names}
