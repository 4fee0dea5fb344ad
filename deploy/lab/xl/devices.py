"""A VM's disks and interfaces in the agent's words."""

from __future__ import annotations

from typing import Any

from deploy.lab.classes.vif import locking_mode_on
from deploy.lab.classes.wiring import pif_on
from deploy.lab.database import Row
from deploy.lab.lab import Lab
from deploy.lab.machine import Machine

TRUNK_BRIDGE = "xenbr0"
"""What dom0 calls the bridge over its only network card."""


def disks_of(lab: Lab, vm: Row, *, plugged: bool = False) -> list[dict[str, Any]]:
    """Every disk that is in the VM, or every one that is plugged; empty drives are left out."""
    found = [disk_of(lab, v) for v in _devices(lab, "VBD", vm.VBDs, plugged=plugged)]
    return sorted((disk for disk in found if disk), key=lambda disk: int(disk["device"]))


def disk_of(lab: Lab, vbd: Row) -> dict[str, Any] | None:
    """The VBD's disk; None for an empty drive."""
    vdi = None if vbd.empty else lab.db.find("VDI", vbd.VDI)
    if vdi is None:
        return None
    return {"device": int(vbd.userdevice), "vdi": vdi.uuid, "read_only": vbd.mode == "RO"}


def vifs_of(lab: Lab, vm: Row, machine: Machine, *, plugged: bool = False) -> list[dict[str, Any]]:
    """Every interface of the VM, or every one that is plugged."""
    found = [vif_of(lab, v, machine) for v in _devices(lab, "VIF", vm.VIFs, plugged=plugged)]
    return sorted(found, key=lambda vif: int(vif["device"]))


def vif_of(lab: Lab, vif: Row, machine: Machine) -> dict[str, Any]:
    network = lab.db.get("network", vif.network)
    return {
        "device": int(vif.device),
        "mac": vif.MAC,
        "bridge": bridge_of(lab, network, machine)["name"],
        "kbps": _rate(vif),
        **filter_of(vif, network),
    }


def _devices(lab: Lab, cls: str, refs: list[str], *, plugged: bool) -> list[Row]:
    return [row for row in lab.db.rows(cls, refs) if row.currently_attached or not plugged]


def bridges_of(lab: Lab, vm: Row, machine: Machine) -> list[dict[str, Any]]:
    """The bridges that the VM's interfaces hang on, to be made where they are missing."""
    networks = lab.db.rows("network", [v.network for v in lab.db.rows("VIF", vm.VIFs)])
    return [bridge_of(lab, network, machine) for network in networks]


def bridge_of(lab: Lab, network: Row, machine: Machine) -> dict[str, Any]:
    """Name and VLAN. A network without a VLAN and without a card is the host's alone."""
    pif = pif_on(lab, network, machine.host)
    if pif is not None and pif.physical:
        return {"name": TRUNK_BRIDGE, "vlan": None}
    vlan = pif.VLAN if pif is not None and pif.VLAN > 0 else None
    return {"name": network.bridge, "vlan": vlan}


def filter_of(vif: Row, network: Row) -> dict[str, Any]:
    """What the interface may send on a network."""
    mode = locking_mode_on(network, vif.locking_mode)
    locked = mode == "locked"
    return {
        "locked": locked,
        "disabled": mode == "disabled",
        "ipv4": list(vif.ipv4_allowed) if locked else [],
        "ipv6": list(vif.ipv6_allowed) if locked else [],
    }


def _rate(vif: Row) -> int | None:
    """Kilobytes a second, when the interface is limited."""
    if vif.qos_algorithm_type != "ratelimit":
        return None
    rate = str(vif.qos_algorithm_params.get("kbps", ""))
    return int(rate) if rate.isdecimal() and int(rate) > 0 else None
