"""Bonds: several PIFs of a host made one, with all that stood on them moved up (xapi_bond.ml)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.lab.classes import pif as pifs
from deploy.lab.classes import tunnel as tunnels
from deploy.lab.classes import vlan as vlans
from deploy.lab.classes.wiring import (
    bring_down,
    bring_up,
    check_mac,
    check_network_managed,
    check_not_connected,
)
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.placement import possible_hosts
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

_NO_ADDRESS = {
    "ip_configuration_mode": "None",
    "IP": "",
    "netmask": "",
    "gateway": "",
    "DNS": "",
}


@dataclass(frozen=True)
class Requirement:
    """A property that a bond mode knows."""

    default: str | None
    is_valid: Callable[[str], bool]


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value in values


def _is_int(value: str) -> bool:
    try:
        int(value)
    except ValueError:
        return False
    return True


REQUIREMENTS = {
    "lacp": {
        "hashing_algorithm": Requirement("tcpudp_ports", _one_of("src_mac", "tcpudp_ports")),
        "lacp-time": Requirement("slow", _one_of("fast", "slow")),
        "lacp-aggregation-key": Requirement(None, _is_int),
        "lacp-fallback-ab": Requirement("true", _one_of("true", "false")),
    }
}


def _check_property(mode: str, name: str, value: str) -> None:
    requirement = REQUIREMENTS.get(mode, {}).get(name)
    if requirement is None or not requirement.is_valid(value):
        raise XapiError("INVALID_VALUE", "properties", f"{name} = {value}")


def _with_defaults(mode: str, properties: dict[str, str]) -> dict[str, str]:
    defaults = {
        name: requirement.default
        for name, requirement in REQUIREMENTS.get(mode, {}).items()
        if requirement.default is not None
    }
    return {**defaults, **properties}


@message("Bond.create")
async def create(
    call: Call,
    network: str,
    members: list[str],
    mac: str,
    mode: str,
    properties: dict[str, str],
) -> str:
    """Raises PIF_BOND_NEEDS_MORE_MEMBERS, NETWORK_UNMANAGED, NETWORK_ALREADY_CONNECTED,
    MAC_INVALID, INVALID_VALUE, PIF_ALREADY_BONDED, PIF_VLAN_EXISTS, IS_TUNNEL_ACCESS_PIF,
    PIF_UNMANAGED, PIF_CANNOT_BOND_CROSS_HOST, INCOMPATIBLE_PIF_PROPERTIES,
    PIF_BOND_MORE_THAN_ONE_IP."""
    if not members:
        raise XapiError("PIF_BOND_NEEDS_MORE_MEMBERS")
    host = (await forward(call, call.db.get("PIF", members[0]).host)).host
    target = call.db.get("network", network)
    check_network_managed(target)
    check_not_connected(call.lab, target, host)
    if mac:
        check_mac(mac)
    for name, value in properties.items():
        _check_property(mode, name, value)
    slaves = [call.db.get("PIF", ref) for ref in dict.fromkeys(members)]
    primary = _primary(slaves)
    _check_members(call.lab, slaves)
    moved = _what_stands_on(call, host, slaves)
    master = pifs.make(
        call.lab,
        device=_free_name(call.lab, host),
        network=target.ref,
        host=host.ref,
        MAC=mac or primary.MAC,
        MTU=-1,
        VLAN=-1,
        metrics=call.db.create("PIF_metrics").ref,
        IPv6=[""],
        properties=dict(primary.properties),
    )
    bond = call.db.create(
        "Bond",
        master=master.ref,
        primary_slave=primary.ref,
        mode=mode,
        properties=_with_defaults(mode, properties),
    )
    for slave in slaves:
        call.db.update(slave, bond_slave_of=bond.ref)
    _move_up(call, slaves, primary, master, moved)
    return bond.ref


def _primary(members: list[Row]) -> Row:
    """The management PIF, else the first with an address, else the first."""
    for pif in members:
        if pif.management:
            return pif
    for pif in members:
        if pif.ip_configuration_mode != "None":
            return pif
    return members[0]


def _check_members(lab: Lab, members: list[Row]) -> None:
    for pif in members:
        if lab.db.find("Bond", pif.bond_slave_of) is not None:
            raise XapiError("PIF_ALREADY_BONDED", pif.ref)
        if pif.VLAN != -1:
            raise XapiError("PIF_VLAN_EXISTS", pif.device_name)
        if pif.tunnel_access_PIF_of:
            raise XapiError("IS_TUNNEL_ACCESS_PIF", pif.ref)
        if lab.pool.ha_enabled and pif.management:
            raise XapiError("HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE")
        if not pif.managed:
            raise XapiError("PIF_UNMANAGED", pif.ref)
    if len({pif.host for pif in members}) != 1:
        raise XapiError("PIF_CANNOT_BOND_CROSS_HOST")
    if any(pif.properties != members[0].properties for pif in members):
        raise XapiError("INCOMPATIBLE_PIF_PROPERTIES")
    if sum(pif.ip_configuration_mode != "None" for pif in members) > 1:
        raise XapiError("PIF_BOND_MORE_THAN_ONE_IP")


def _free_name(lab: Lab, host: Row) -> str:
    devices = {pif.device for pif in lab.db.rows("PIF", host.PIFs) if pif.bond_master_of}
    return next(f"bond{n}" for n in range(len(devices) + 1) if f"bond{n}" not in devices)


@dataclass(frozen=True)
class Moved:
    """What follows when a bond is made or dissolved."""

    vifs: list[Row]
    vlans: list[Row]
    tunnels: list[Row]

    def has_management(self, lab: Lab) -> bool:
        untagged = [lab.db.get("PIF", vlan.untagged_PIF) for vlan in self.vlans]
        return any(pif.management for pif in untagged)


def _what_stands_on(call: Call, host: Row, bases: list[Row]) -> Moved:
    db = call.db
    networks = [db.get("network", pif.network) for pif in bases]
    vifs = [vif for network in networks for vif in db.rows("VIF", network.VIFs)]
    return Moved(
        [vif for vif in vifs if _is_local(call, db.get("VM", vif.VM), host)],
        [vlan for pif in bases for vlan in db.rows("VLAN", pif.VLAN_slave_of)],
        [each for pif in bases for each in db.rows("tunnel", pif.tunnel_transport_PIF_of)],
    )


def _is_local(call: Call, vm: Row, host: Row) -> bool:
    """The VM runs here, or can start here only, or nowhere."""
    if vm.resident_on != NULL:
        return bool(vm.resident_on == host.ref)
    return all(possible.ref == host.ref for possible in possible_hosts(call.lab, vm))


def _move_up(call: Call, slaves: list[Row], primary: Row, master: Row, moved: Moved) -> None:
    lab = call.lab
    was_management = primary.management
    on_vlan = moved.has_management(lab)
    _move_address(lab, primary, master)
    if was_management:
        _move_management(lab, primary, master)
    elif not on_vlan:
        bring_up(lab, master)
    for vlan in moved.vlans:
        _move_vlan(lab, vlan, master)
    if on_vlan:
        bring_up(lab, master)
    for each in moved.tunnels:
        _move_tunnel(lab, each, master)
    for vif in moved.vifs:
        call.db.update(vif, network=master.network)
    if any(slave.disallow_unplug for slave in slaves):
        call.db.update(master, disallow_unplug=True)
        for slave in slaves:
            call.db.update(slave, disallow_unplug=False)


def _move_address(lab: Lab, source: Row, target: Row) -> None:
    lab.db.update(target, **{name: source.fields[name] for name in _NO_ADDRESS})
    lab.db.update(source, **_NO_ADDRESS)


def _move_management(lab: Lab, source: Row, target: Row) -> None:
    bring_up(lab, target)
    lab.db.update(target, management=True)
    lab.db.update(source, management=False)


def _move_vlan(lab: Lab, vlan: Row, base: Row) -> None:
    old = lab.db.get("PIF", vlan.untagged_PIF)
    network = lab.db.get("network", old.network)
    plugged, management = old.currently_attached, old.management
    if plugged and not management:
        bring_down(lab, old)
    same_tag = [v for v in lab.db.rows("VLAN", base.VLAN_slave_of) if v.tag == vlan.tag]
    moved = same_tag[0] if same_tag else vlans.record(lab, base, vlan.tag, network)
    new = lab.db.get("PIF", moved.untagged_PIF)
    if same_tag:
        for vif in lab.db.rows("VIF", network.VIFs):
            if lab.db.get("VM", vif.VM).resident_on == base.host:
                lab.db.update(vif, network=new.network)
    _move_address(lab, old, new)
    lab.db.delete(vlan)
    if plugged and management:
        _move_management(lab, old, new)
    elif plugged:
        bring_up(lab, new)
    lab.db.delete(old)


def _move_tunnel(lab: Lab, tunnel: Row, transport: Row) -> None:
    old = lab.db.get("PIF", tunnel.access_PIF)
    network, host = lab.db.get("network", old.network), lab.db.get("host", old.host)
    plugged = old.currently_attached
    moved = tunnels.record(lab, transport, network, host, tunnel.protocol)
    lab.db.delete(tunnel)
    lab.db.delete(old)
    if plugged:
        bring_up(lab, lab.db.get("PIF", moved.access_PIF))


@message("Bond.destroy")
async def destroy(call: Call, bond: Row) -> None:
    """Everything goes to the primary member. Raises HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE."""
    lab = call.lab
    master = call.db.get("PIF", bond.master)
    host = (await forward(call, master.host)).host
    members = call.db.rows("PIF", bond.slaves)
    primary = call.db.get("PIF", bond.primary_slave)
    moved = _what_stands_on(call, host, [master])
    if lab.pool.ha_enabled and master.management:
        raise XapiError("HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE")
    plugged, on_vlan = master.currently_attached, moved.has_management(lab)
    _move_address(lab, master, primary)
    if master.management:
        _move_management(lab, master, primary)
    if plugged or on_vlan:
        for member in members:
            bring_up(lab, member)
    for vlan in moved.vlans:
        _move_vlan(lab, vlan, primary)
    for vif in moved.vifs:
        call.db.update(vif, network=primary.network)
    for each in moved.tunnels:
        _move_tunnel(lab, each, primary)
    if master.disallow_unplug:
        call.db.update(primary, disallow_unplug=True)
    call.db.delete(bond)
    call.db.delete(master)
    for member in members:
        call.db.update(member, bond_slave_of=NULL)


@message("Bond.set_mode")
async def set_mode(call: Call, bond: Row, mode: str) -> None:
    """Properties that the new mode does not know go."""
    master = call.db.get("PIF", bond.master)
    await forward(call, master.host)
    kept = {
        name: value
        for name, value in bond.properties.items()
        if name in REQUIREMENTS.get(mode, {}) and REQUIREMENTS[mode][name].is_valid(value)
    }
    call.db.update(bond, mode=mode, properties=_with_defaults(mode, kept))
    bring_up(call.lab, master)


@message("Bond.set_property")
async def set_property(call: Call, bond: Row, name: str, value: str) -> None:
    master = call.db.get("PIF", bond.master)
    await forward(call, master.host)
    _check_property(bond.mode, name, value)
    call.db.update(bond, properties={**bond.properties, name: value})
    bring_up(call.lab, master)
