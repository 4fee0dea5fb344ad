"""Bringing interfaces of hosts up and down, and the checks that networking shares.

Facts: xen-api nm.ml, xapi_pif.ml, xapi_network_attach_helpers.ml; FACTS 8.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

DEFAULT_MTU = 1500
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")


def pif_on(lab: Lab, network: Row, host: Row) -> Row | None:
    """The PIF that connects the network to the host (there is at most one)."""
    if len(host.PIFs) <= len(network.PIFs):
        candidates = (pif for pif in lab.db.rows("PIF", host.PIFs) if pif.network == network.ref)
    else:
        candidates = (pif for pif in lab.db.rows("PIF", network.PIFs) if pif.host == host.ref)
    return next(candidates, None)


def check_not_connected(lab: Lab, network: Row, host: Row) -> None:
    """Raise NETWORK_ALREADY_CONNECTED [host, pif] when the host is on the network already."""
    other = pif_on(lab, network, host)
    if other is not None:
        raise XapiError("NETWORK_ALREADY_CONNECTED", host.ref, other.ref)


def check_network_managed(network: Row) -> None:
    if not network.managed:
        raise XapiError("NETWORK_UNMANAGED", network.ref)


def check_managed(pif: Row) -> None:
    if not pif.managed:
        raise XapiError("PIF_UNMANAGED", pif.ref)


def check_unprotected(lab: Lab, pif: Row) -> None:
    """Refuse to touch an attached interface while HA or the redo log relies on it."""
    if not pif.currently_attached:
        return
    if lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    if lab.pool.redo_log_enabled:
        raise XapiError("REDO_LOG_IS_ENABLED")


def check_mac(text: str) -> None:
    if not _MAC.fullmatch(text):
        raise XapiError("MAC_INVALID", text)


def check_address(version: int, field: str, text: str) -> None:
    """Raise INVALID_IP_ADDRESS_SPECIFIED [field] unless `text` is an IPv4 (4) or IPv6 (6) address."""
    if not is_address(version, text):
        raise XapiError("INVALID_IP_ADDRESS_SPECIFIED", field)


def is_address(version: int, text: str) -> bool:
    # The daemon asks the C library too, which takes more spellings than ipaddress does.
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        return bool(text and socket.getaddrinfo(text, None, family, flags=socket.AI_NUMERICHOST))
    except (socket.gaierror, UnicodeError):
        return False


def check_cidr(version: int, field: str, text: str) -> str:
    """The address of `address/prefix`. Raises INVALID_CIDR_ADDRESS_SPECIFIED [field]."""
    address, _, prefix = text.partition("/")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or interface.version != version or not prefix.isdecimal():
        raise XapiError("INVALID_CIDR_ADDRESS_SPECIFIED", field)
    return address


def bring_up(lab: Lab, pif: Row) -> None:
    """Make the interface be up, as the host's network daemon does."""
    for bond in lab.db.rows("Bond", pif.bond_master_of):
        for member in lab.db.rows("PIF", bond.slaves):
            lab.db.update(member, currently_attached=False)
    if pif.bond_slave_of != NULL:
        bond_of = lab.db.get("Bond", pif.bond_slave_of)
        lab.db.update(lab.db.get("PIF", bond_of.master), currently_attached=False)
    network = lab.db.find("network", pif.network)
    changes: dict[str, Any] = {"currently_attached": True}
    if network is not None:
        changes["MTU"] = network.MTU
    if pif.VLAN == -1:
        snooping = lab.pool.igmp_snooping_enabled
        changes["igmp_snooping_status"] = "enabled" if snooping else "disabled"
    lab.db.update(pif, **changes)
    vlan = lab.db.find("VLAN", pif.VLAN_master_of)
    tagged = lab.db.find("PIF", vlan.tagged_PIF) if vlan is not None else None
    if tagged is not None and not tagged.currently_attached:
        # A VLAN's bridge stands on its device's own, which is up from then on (recorded:
        # vlan_per_host).
        bring_up(lab, tagged)


def bring_down(lab: Lab, pif: Row) -> None:
    lab.db.update(pif, currently_attached=False)


def attach_network(lab: Lab, network: Row, host: Row, *, again: bool = False) -> None:
    """Have the network on the host, for an interface of a VM that comes up there.

    Raises BRIDGE_NOT_AVAILABLE (an unmanaged network has no bridge here), CANNOT_PLUG_BOND_SLAVE.
    """
    if not network.managed:
        raise XapiError("BRIDGE_NOT_AVAILABLE", network.bridge)
    pif = pif_on(lab, network, host)
    if pif is None or not pif.managed or (pif.currently_attached and not again):
        return
    if pif.bond_slave_of != NULL:
        raise XapiError("CANNOT_PLUG_BOND_SLAVE", pif.ref)
    bring_up(lab, pif)


def check_unused_on(lab: Lab, network: Row, host: str) -> None:
    """Raise VIF_IN_USE [network, vif] when a live VM of the host has an interface there."""
    for vif in lab.db.rows("VIF", network.VIFs):
        vm = lab.db.find("VM", vif.VM)
        if (
            vif.currently_attached
            and vm is not None
            and vm.resident_on == host
            and vm.power_state in ("Running", "Paused")
        ):
            raise XapiError("VIF_IN_USE", network.ref, vif.ref)


def is_protected(vm: Row) -> bool:
    """HA restarts this VM."""
    return bool(vm.ha_always_run and vm.ha_restart_priority == "restart")


def is_shared(lab: Lab, network: Row) -> bool:
    """Every enabled host is on the network, and not by a bond's member."""
    pifs = lab.db.rows("PIF", network.PIFs)
    connected = {pif.host for pif in pifs if pif.bond_slave_of == NULL}
    return all(host.ref in connected for host in lab.db.all("host") if host.enabled)
