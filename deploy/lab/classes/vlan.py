"""VLANs: one PIF a host and tag, singly or on every live host at once.

Facts: XAPI.md 3, xen-api xapi_vlan.ml and xapi_pool.ml; recorded: vlan_per_host.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from deploy.lab.classes import pif as pifs
from deploy.lab.classes.wiring import (
    check_managed,
    check_network_managed,
    check_not_connected,
    check_unprotected,
)
from deploy.lab.database import Row, new_ref
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

DUMMY_MAC = "fe:ff:ff:ff:ff:ff"
HIGHEST_TAG = 4094


@message("VLAN.create")
async def create(call: Call, tagged_pif: str, tag: int, network: str) -> str:
    pif = call.db.get("PIF", tagged_pif)
    vlan = await make(call, pif, tag, call.db.get("network", network))
    return vlan.ref


async def make(call: Call, tagged: Row, tag: int, network: Row) -> Row:
    """Tag the PIF's traffic for the network and bring it up.

    Raises NETWORK_UNMANAGED, NETWORK_ALREADY_CONNECTED, PIF_UNMANAGED,
    CANNOT_ADD_VLAN_TO_BOND_SLAVE, PIF_IS_VLAN, IS_TUNNEL_ACCESS_PIF, VLAN_TAG_INVALID,
    PIF_VLAN_EXISTS, CANNOT_CONTACT_HOST.
    """
    host = (await forward(call, tagged.host)).host
    check_network_managed(network)
    check_not_connected(call.lab, network, host)
    check_managed(tagged)
    _check_carries_vlans(tagged)
    if not 0 <= tag <= HIGHEST_TAG:
        raise XapiError("VLAN_TAG_INVALID", str(tag))
    if any(vlan.tag == tag for vlan in call.db.rows("VLAN", tagged.VLAN_slave_of)):
        raise XapiError("PIF_VLAN_EXISTS", tagged.device)
    vlan = record(call.lab, tagged, tag, network)
    pifs.plug_here(call.lab, call.db.get("PIF", vlan.untagged_PIF))
    return vlan


def _check_carries_vlans(pif: Row) -> None:
    if pif.tunnel_access_PIF_of:
        raise XapiError("IS_TUNNEL_ACCESS_PIF", pif.ref)
    if pif.VLAN_master_of != NULL:
        raise XapiError("PIF_IS_VLAN", pif.ref)
    if pif.bond_slave_of != NULL:
        raise XapiError("CANNOT_ADD_VLAN_TO_BOND_SLAVE", pif.ref)


def record(lab: Lab, tagged: Row, tag: int, network: Row) -> Row:
    """The VLAN and its untagged PIF, which is down; MTU and metrics are the tagged PIF's."""
    vlan = new_ref()
    untagged = pifs.make(
        lab,
        device=tagged.device,
        network=network.ref,
        host=tagged.host,
        MAC=DUMMY_MAC,
        MTU=tagged.MTU,
        VLAN=tag,
        metrics=tagged.metrics,
        VLAN_master_of=vlan,
        IPv6=[""],
    )
    return lab.db.create(
        "VLAN", ref=vlan, tagged_PIF=tagged.ref, untagged_PIF=untagged.ref, tag=tag
    )


@message("VLAN.pool_introduce")
def pool_introduce(
    call: Call, tagged_pif: str, untagged_pif: str, tag: int, other_config: dict[str, str]
) -> str:
    """The database's side of an introduction alone."""
    untagged = call.db.get("PIF", untagged_pif)
    vlan = call.db.create(
        "VLAN",
        tagged_PIF=tagged_pif,
        untagged_PIF=untagged_pif,
        tag=tag,
        other_config=other_config,
    )
    call.db.update(untagged, VLAN_master_of=vlan.ref)
    return vlan.ref


@message("VLAN.destroy")
async def destroy(call: Call, vlan: Row) -> None:
    await remove(call, vlan)


async def remove(call: Call, vlan: Row) -> None:
    """Raises VIF_IN_USE and whatever else forbids unplugging the PIF."""
    pif = call.db.find("PIF", vlan.untagged_PIF)
    if pif is None:
        call.db.delete(vlan)
        return
    await forward(call, pif.host)
    if pif.bond_slave_of != NULL or pif.bond_master_of:
        raise XapiError("PIF_ALREADY_BONDED", pif.ref)
    check_unprotected(call.lab, pif)
    pifs.unplug_here(call.lab, pif)
    call.db.delete(vlan)
    call.db.delete(pif)


@message("pool.create_VLAN_from_PIF")
async def create_from_pif(call: Call, pif: str, network: str, tag: int) -> list[str]:
    """The VLAN on every live host that has a PIF on the given one's network; all or none."""
    base = call.db.get("network", call.db.get("PIF", pif).network)
    return await _create_on_all(call, call.db.rows("PIF", base.PIFs), network, tag)


@message("pool.create_VLAN")
async def create_by_device(call: Call, device: str, network: str, tag: int) -> list[str]:
    """The VLAN on the PIF of that name of every host, live or not; all or none.

    Raises INVALID_VALUE [device, name] when a host has none.
    """
    bases = [_by_device(call, host, device) for host in call.db.all("host")]
    return await _create_on_all(call, bases, network, tag, live_only=False)


def _by_device(call: Call, host: Row, device: str) -> Row:
    for pif in call.db.rows("PIF", host.PIFs):
        if pif.device == device and pif.VLAN == -1:
            return pif
    raise XapiError("INVALID_VALUE", "device", device)


async def _create_on_all(
    call: Call, bases: list[Row], network: str, tag: int, *, live_only: bool = True
) -> list[str]:
    target = call.db.get("network", network)
    made: list[Row] = []
    try:
        for base in bases:
            if not live_only or _is_live(call, base.host):
                made.append(await make(call, base, tag, target))
    except XapiError:
        for vlan in made:
            with contextlib.suppress(XapiError):
                await remove(call, vlan)
        raise
    return [vlan.untagged_PIF for vlan in made]


def _is_live(call: Call, host: str) -> bool:
    metrics = call.db.find("host_metrics", call.db.get("host", host).metrics)
    return metrics is not None and bool(metrics.live)


# --- the older way to VLANs


@message("PIF.create_VLAN")
async def create_pif(call: Call, device: str, network: str, host: str, tag: int) -> str:
    """The untagged PIF of a new VLAN. Raises INVALID_VALUE [device, name] as well."""
    pif = _by_device(call, call.db.get("host", host), device)
    vlan = await make(call, pif, tag, call.db.get("network", network))
    return str(vlan.untagged_PIF)


@message("PIF.destroy")
async def destroy_pif(call: Call, pif: Row) -> None:
    if pif.VLAN < 0:
        raise XapiError("PIF_IS_PHYSICAL")
    await remove(call, call.db.get("VLAN", pif.VLAN_master_of))
