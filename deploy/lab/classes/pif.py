"""Physical interfaces of hosts: plugging, addresses, coming and going.

Facts: FACTS 8, xen-api xapi_pif.ml; recorded: vlan_per_host, records_fresh_pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from deploy.lab.classes.wiring import (
    DEFAULT_MTU,
    bring_down,
    bring_up,
    check_address,
    check_cidr,
    check_mac,
    check_managed,
    check_unprotected,
    check_unused_on,
    is_address,
    is_protected,
)
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.machine import Machine
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

PROPERTIES = {"gro": ("on", "off")}
DEFAULT_PROPERTIES = {"gro": "on"}


# --- plugging


@message("PIF.plug")
async def plug(call: Call, pif: Row) -> None:
    await forward(call, pif.host)
    plug_here(call.lab, pif)


def plug_here(lab: Lab, pif: Row) -> None:
    """Raises PIF_UNMANAGED, CANNOT_PLUG_BOND_SLAVE, TRANSPORT_PIF_NOT_CONFIGURED."""
    check_managed(pif)
    for tunnel in lab.db.rows("tunnel", pif.tunnel_access_PIF_of):
        transport = lab.db.get("PIF", tunnel.transport_PIF)
        if transport.ip_configuration_mode == "None":
            raise XapiError("TRANSPORT_PIF_NOT_CONFIGURED", transport.ref)
        plug_here(lab, transport)
    if pif.bond_slave_of != NULL:
        raise XapiError("CANNOT_PLUG_BOND_SLAVE", pif.ref)
    bring_up(lab, pif)


@message("PIF.unplug")
async def unplug(call: Call, pif: Row) -> None:
    await forward(call, pif.host)
    unplug_here(call.lab, pif)


def unplug_here(lab: Lab, pif: Row) -> None:
    """Raises PIF_UNMANAGED, HA_IS_ENABLED, PIF_IS_MANAGEMENT_INTERFACE, VIF_IN_USE, …"""
    check_managed(pif)
    check_unprotected(lab, pif)
    _check_not_management(pif)
    network = lab.db.get("network", pif.network)
    _check_no_protected_vm(lab, pif, network)
    check_unused_on(lab, network, pif.host)
    if pif.disallow_unplug:
        raise XapiError("PIF_DOES_NOT_ALLOW_UNPLUG", pif.ref)
    for tunnel in lab.db.rows("tunnel", pif.tunnel_transport_PIF_of):
        unplug_here(lab, lab.db.get("PIF", tunnel.access_PIF))
    if pif.bond_slave_of == NULL:
        bring_down(lab, pif)


def _check_not_management(pif: Row) -> None:
    if pif.management:
        raise XapiError("PIF_IS_MANAGEMENT_INTERFACE", pif.ref)


def _check_no_protected_vm(lab: Lab, pif: Row, network: Row) -> None:
    pool = lab.pool
    if not lab.db.get("host", pif.host).enabled or not pool.ha_enabled or pool.ha_allow_overcommit:
        return
    vms = lab.db.rows("VM", [vif.VM for vif in lab.db.rows("VIF", network.VIFs)])
    if any(is_protected(vm) for vm in vms):
        raise XapiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")


@message("PIF.set_disallow_unplug")
def set_disallow_unplug(call: Call, pif: Row, value: bool) -> None:
    call.db.update(pif, disallow_unplug=value)


# --- coming and going


# What is in the machine though xapi was told to forget it: a scan finds it again.
_forgotten: WeakKeyDictionary[Machine, dict[str, str]] = WeakKeyDictionary()


@message("PIF.forget")
async def forget(call: Call, pif: Row) -> None:
    lab = call.lab
    await forward(call, pif.host)
    _check_not_management(pif)
    if lab.db.find("Bond", pif.bond_slave_of) is not None or pif.bond_master_of:
        raise XapiError("PIF_ALREADY_BONDED", pif.ref)
    if pif.VLAN_slave_of or pif.VLAN != -1:
        raise XapiError("PIF_VLAN_STILL_EXISTS", pif.ref)
    if pif.tunnel_transport_PIF_of or pif.tunnel_access_PIF_of:
        raise XapiError("PIF_TUNNEL_STILL_EXISTS", pif.ref)
    check_unprotected(lab, pif)
    if pif.physical:
        _forgotten.setdefault(lab.machine(pif.host), {})[pif.device] = pif.MAC
    metrics = lab.db.find("PIF_metrics", pif.metrics)
    if metrics is not None:
        lab.db.delete(metrics)
    lab.db.delete(pif)


@message("PIF.scan")
async def scan(call: Call, host: str) -> None:
    where = (await forward(call, host)).host
    for device, mac in _devices(call.lab, where).items():
        if device not in _known_devices(call.lab, where):
            _introduce(call, where, device, mac, managed=True)


@message("PIF.introduce")
async def introduce(call: Call, host: str, mac: str, device: str, managed: bool) -> str:
    """Raises MAC_INVALID, DUPLICATE_PIF_DEVICE_NAME and, for what is not in the machine,
    COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS."""
    where = (await forward(call, host)).host
    devices = _devices(call.lab, where)
    mac = mac.lower() or devices.get(device, "")
    check_mac(mac)
    if device in _known_devices(call.lab, where):
        raise XapiError("DUPLICATE_PIF_DEVICE_NAME", device)
    if devices.get(device) != mac:
        raise XapiError(
            "COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS",
            device,
            mac,
        )
    return _introduce(call, where, device, mac, managed=managed).ref


def _known_devices(lab: Lab, host: Row) -> dict[str, str]:
    return {pif.device: pif.MAC for pif in lab.db.rows("PIF", host.PIFs) if pif.physical}


def _devices(lab: Lab, host: Row) -> dict[str, str]:
    """The network cards of a machine: device name → MAC."""
    forgotten = _forgotten.get(lab.machine(host.ref), {})
    return {**forgotten, **_known_devices(lab, host)}


def _introduce(call: Call, host: Row, device: str, mac: str, *, managed: bool) -> Row:
    number = device.removeprefix("eth")
    bridge = f"xenbr{number}" if number != device else f"br{device}"
    network = next((n for n in call.db.all("network") if n.bridge == bridge), None)
    if network is None:
        network = call.db.create(
            "network",
            name_label=f"Pool-wide network associated with {device}",
            bridge=bridge,
            managed=True,
        )
    _forgotten.get(call.lab.machine(host.ref), {}).pop(device, None)
    return make(
        call.lab,
        device=device,
        network=network.ref,
        host=host.ref,
        MAC=mac,
        MTU=DEFAULT_MTU,
        VLAN=-1,
        metrics=call.db.create("PIF_metrics", carrier=True, speed=1000, duplex=True).ref,
        physical=True,
        managed=managed,
        properties=dict(DEFAULT_PROPERTIES),
    )


def make(lab: Lab, **values: Any) -> Row:
    """A new interface, not attached; `values` are fields of PIF."""
    values.setdefault("device_name", values["device"])
    return lab.db.create("PIF", **{"currently_attached": False, **values})


@message("PIF.db_introduce", "PIF.pool_introduce")
def db_introduce(call: Call, *values: Any) -> str:
    names = [parameter.name for parameter in call.message.parameters]
    fields = dict(zip(names, values, strict=True))
    fields["bond_slave_of"] = NULL
    fields["metrics"] = call.db.create("PIF_metrics").ref
    for cls in ("network", "host"):
        call.db.get(cls, fields[cls])
    return make(call.lab, **fields).ref


@message("PIF.db_forget")
def db_forget(call: Call, pif: Row) -> None:
    call.db.delete(pif)


# --- addresses and properties


@message("PIF.reconfigure_ip")
async def reconfigure_ip(
    call: Call, pif: Row, mode: str, ip: str, netmask: str, gateway: str, dns: str
) -> None:
    """Raises PIF_UNMANAGED, HA_IS_ENABLED, INVALID_IP_ADDRESS_SPECIFIED [field],
    PIF_IS_MANAGEMENT_INTERFACE [pif]. The host's own address stays: it is where it listens."""
    await forward(call, pif.host)
    check_managed(pif)
    same = (pif.ip_configuration_mode, pif.IP, pif.netmask, pif.gateway)
    if mode != "Static" or same != (mode, ip, netmask, gateway):
        check_unprotected(call.lab, pif)
    if mode == "Static":
        check_address(4, "IP", ip)
        check_address(4, "netmask", netmask)
    for field, text in (("IP", ip), ("netmask", netmask), ("gateway", gateway)):
        if text:
            check_address(4, field, text)
    if pif.management and mode == "None" and pif.primary_address_type == "IPv4":
        raise XapiError("PIF_IS_MANAGEMENT_INTERFACE", pif.ref)
    if pif.management and mode == "DHCP":
        ip, netmask = pif.IP, pif.netmask
    call.db.update(
        pif,
        ip_configuration_mode=mode,
        IP=ip,
        netmask=netmask,
        gateway=gateway,
        DNS=_with_dns(4, pif, dns),
    )
    if pif.currently_attached:
        bring_up(call.lab, pif)


@message("PIF.reconfigure_ipv6")
async def reconfigure_ipv6(
    call: Call, pif: Row, mode: str, address: str, gateway: str, dns: str
) -> None:
    await forward(call, pif.host)
    check_managed(pif)
    same = (pif.ipv6_configuration_mode, pif.IPv6, pif.ipv6_gateway)
    if mode != "Static" or same != (mode, [address], gateway):
        check_unprotected(call.lab, pif)
    if gateway:
        check_address(6, "gateway", gateway)
    if address:
        check_cidr(6, "IPv6", address)
    if pif.management and mode == "None" and pif.primary_address_type == "IPv6":
        raise XapiError("PIF_IS_MANAGEMENT_INTERFACE", pif.ref)
    call.db.update(
        pif,
        ipv6_configuration_mode=mode,
        IPv6=[address],
        ipv6_gateway=gateway,
        DNS=_with_dns(6, pif, dns),
    )
    if pif.currently_attached:
        bring_up(call.lab, pif)


def _with_dns(version: int, pif: Row, dns: str) -> str:
    """The addresses of this version that are given, then those of the other that it has."""
    given = [text for text in dns.split(",") if is_address(version, text)]
    kept = [text for text in pif.DNS.split(",") if is_address(10 - version, text)]
    return ",".join([*given, *kept])


@message("PIF.set_primary_address_type")
async def set_primary_address_type(call: Call, pif: Row, value: str) -> None:
    await forward(call, pif.host)
    check_unprotected(call.lab, pif)
    _check_not_management(pif)
    call.db.update(pif, primary_address_type=value)


@message("PIF.set_property")
async def set_property(call: Call, pif: Row, name: str, value: str) -> None:
    """Raises INVALID_VALUE [properties, name = value], CANNOT_CHANGE_PIF_PROPERTIES [pif]."""
    await forward(call, pif.host)
    if value not in PROPERTIES.get(name, ()):
        raise XapiError("INVALID_VALUE", "properties", f"{name} = {value}")
    if not (pif.physical or pif.bond_master_of) or pif.bond_slave_of != NULL:
        raise XapiError("CANNOT_CHANGE_PIF_PROPERTIES", pif.ref)
    properties = {**pif.properties, name: value}
    call.db.update(pif, properties=properties)
    for bond in call.db.rows("Bond", pif.bond_master_of):
        for member in call.db.rows("PIF", bond.slaves):
            call.db.update(member, properties=properties)
    vlans = call.db.rows("VLAN", pif.VLAN_slave_of)
    if pif.currently_attached:
        for each in (pif, *call.db.rows("PIF", [vlan.untagged_PIF for vlan in vlans])):
            bring_up(call.lab, each)
