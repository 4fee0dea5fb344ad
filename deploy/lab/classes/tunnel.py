"""Tunnels: an access PIF on a network, carried by a transport PIF (xen-api xapi_tunnel.ml).

Only records and the bridge are made: the tunnel's ports are the business of a controller that
speaks to Open vSwitch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.classes import pif as pifs
from deploy.lab.classes.vif import generate_mac
from deploy.lab.classes.wiring import (
    check_managed,
    check_network_managed,
    check_not_connected,
)
from deploy.lab.database import Row, new_ref
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab


@message("tunnel.create")
async def create(call: Call, transport_pif: str, network: str, protocol: str) -> str:
    """Raises NETWORK_UNMANAGED, NETWORK_ALREADY_CONNECTED, PIF_UNMANAGED,
    CANNOT_ADD_TUNNEL_TO_BOND_SLAVE, IS_TUNNEL_ACCESS_PIF, OPENVSWITCH_NOT_ACTIVE,
    TRANSPORT_PIF_NOT_CONFIGURED (the tunnel is left behind then, as the daemon leaves it)."""
    transport = call.db.get("PIF", transport_pif)
    host = (await forward(call, transport.host)).host
    target = call.db.get("network", network)
    check_network_managed(target)
    check_not_connected(call.lab, target, host)
    check_managed(transport)
    if transport.tunnel_access_PIF_of:
        raise XapiError("IS_TUNNEL_ACCESS_PIF", transport.ref)
    if transport.bond_slave_of != NULL:
        raise XapiError("CANNOT_ADD_TUNNEL_TO_BOND_SLAVE", transport.ref)
    for member in call.db.all("host"):
        if member.software_version.get("network_backend") != "openvswitch":
            raise XapiError("OPENVSWITCH_NOT_ACTIVE")
    tunnel = record(call.lab, transport, target, host, protocol)
    pifs.plug_here(call.lab, call.db.get("PIF", tunnel.access_PIF))
    return tunnel.ref


def record(lab: Lab, transport: Row, network: Row, host: Row, protocol: str) -> Row:
    """The tunnel and its access PIF, which is down."""
    devices = {pif.device for pif in lab.db.rows("PIF", host.PIFs)}
    number = next(n for n in range(len(devices) + 1) if f"tunnel{n}" not in devices)
    access = pifs.make(
        lab,
        device=f"tunnel{number}",
        network=network.ref,
        host=host.ref,
        MAC=generate_mac(0, new_ref()),
        MTU=-1,
        VLAN=-1,
        metrics=transport.metrics,
        IPv6=[""],
    )
    return lab.db.create(
        "tunnel",
        access_PIF=access.ref,
        transport_PIF=transport.ref,
        status={"active": "false"},
        protocol=protocol,
    )


@message("tunnel.destroy")
async def destroy(call: Call, tunnel: Row) -> None:
    access = call.db.get("PIF", tunnel.access_PIF)
    await forward(call, access.host)
    pifs.unplug_here(call.lab, access)
    call.db.delete(access)
    call.db.delete(tunnel)
