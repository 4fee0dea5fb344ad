"""Networks: bridges, what keeps a network from going away, and which hosts see it.

Facts: XAPI.md 3, FACTS 4 and 8; recorded: network_lifecycle, vlan_per_host.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from deploy.lab.classes.wiring import DEFAULT_MTU, attach_network, pif_on
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.generic import constructor_values
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

LONGEST_BRIDGE = 15
RESERVED_BRIDGES = ("xen", "xapi", "vif", "tap", "eth")
CONFLICTING_PURPOSE = {"nbd": "insecure_nbd", "insecure_nbd": "nbd"}


def check_networks(lab: Lab, vm: Row, host: Row) -> None:
    """Raise what keeps `vm` from having all its networks on `host`.

    VM_REQUIRES_NETWORK [vm, network] when the host has no PIF on one of them (or, for a network
    without PIFs, when running VMs hold it on other hosts), HOST_CANNOT_ATTACH_NETWORK [host,
    network] when its PIF there is enslaved by a bond.
    """
    networks = [lab.db.get("network", vif.network) for vif in lab.db.rows("VIF", vm.VIFs)]
    for network in networks:
        if not is_available(lab, network, host):
            raise XapiError("VM_REQUIRES_NETWORK", vm.ref, network.ref)
    for network in networks:
        check_attachable(lab, network, host)


def is_available(lab: Lab, network: Row, host: Row) -> bool:
    """Whether a VM on `host` could have an interface on `network`."""
    if network.PIFs:
        return pif_on(lab, network, host) is not None
    if network.other_config.get("assume_network_is_shared") == "true" or not network.managed:
        return True
    holders = _hosts_of_running_vms(lab, network)
    return not holders or host.ref in holders


def check_attachable(lab: Lab, network: Row, host: Row) -> None:
    """Raise HOST_CANNOT_ATTACH_NETWORK when the network's PIF on the host belongs to a bond."""
    pif = pif_on(lab, network, host)
    if pif is not None and pif.bond_slave_of != NULL:
        raise XapiError("HOST_CANNOT_ATTACH_NETWORK", host.ref, network.ref)


def _hosts_of_running_vms(lab: Lab, network: Row) -> set[str]:
    vms = lab.db.rows("VM", [vif.VM for vif in lab.db.rows("VIF", network.VIFs)])
    return {vm.resident_on for vm in vms if vm.power_state == "Running"}


@message("network.create")
def create(call: Call, record: dict[str, Any]) -> str:
    return make(call, **constructor_values(call.message, record)).ref


def make(call: Call, **values: Any) -> Row:
    """A new network; its bridge is chosen unless a free one is named.

    Raises INVALID_VALUE [bridge, name], BRIDGE_NAME_EXISTS [name].
    """
    bridges = {network.bridge for network in call.db.all("network")}
    bridge = values.get("bridge", "")
    if not bridge:
        values["bridge"] = next(name for name in _bridge_names(call.lab) if name not in bridges)
    elif len(bridge) > LONGEST_BRIDGE or bridge.startswith(RESERVED_BRIDGES):
        raise XapiError("INVALID_VALUE", "bridge", bridge)
    elif bridge in bridges:
        raise XapiError("BRIDGE_NAME_EXISTS", bridge)
    if values.get("MTU", DEFAULT_MTU) <= 0:
        values["MTU"] = DEFAULT_MTU
    return call.db.create("network", **values)


@message("network.pool_introduce")
def pool_introduce(call: Call, *values: Any) -> str:
    """The database's side of an introduction alone: nothing about it is checked."""
    names = [parameter.name for parameter in call.message.parameters]
    return call.db.create("network", **dict(zip(names, values, strict=True))).ref


# The daemon counts on and does not give a name twice before it is restarted.
_counters: WeakKeyDictionary[Lab, Iterator[int]] = WeakKeyDictionary()


def _bridge_names(lab: Lab) -> Iterator[str]:
    counter = _counters.setdefault(lab, itertools.count())
    return (f"xapi{number}" for number in counter)


@message("network.destroy")
def destroy(call: Call, network: Row) -> None:
    """Interfaces that are not attached go with it."""
    vifs = call.db.rows("VIF", network.VIFs)
    attached = [vif.ref for vif in vifs if vif.currently_attached or vif.reserved]
    if attached:
        raise XapiError("NETWORK_CONTAINS_VIF", *attached)
    if network.PIFs:
        raise XapiError("NETWORK_CONTAINS_PIF", *network.PIFs)
    if network.other_config.get("is_host_internal_management_network") == "true":
        raise XapiError("CANNOT_DESTROY_SYSTEM_NETWORK", network.ref)
    for vif in vifs:
        call.db.delete(vif)
    call.db.delete(network)


@message("network.attach")
async def attach(call: Call, network: Row, host: str) -> None:
    """Bring the network up on a host. Raises BRIDGE_NOT_AVAILABLE, CANNOT_PLUG_BOND_SLAVE."""
    machine = await forward(call, host)
    attach_network(call.lab, network, machine.host, again=True)


@message("network.set_default_locking_mode")
def set_default_locking_mode(call: Call, network: Row, value: str) -> None:
    for vif in call.db.rows("VIF", network.VIFs):
        if vif.currently_attached:
            raise XapiError("VIF_IN_USE", network.ref, vif.ref)
    call.db.update(network, default_locking_mode=value)


@message("network.add_purpose")
def add_purpose(call: Call, network: Row, value: str) -> None:
    if value in network.purpose:
        return
    conflicting = CONFLICTING_PURPOSE.get(value)
    if any(conflicting in other.purpose for other in call.db.all("network")):
        raise XapiError("NETWORK_INCOMPATIBLE_PURPOSES", value, str(conflicting))
    call.db.update(network, purpose=[*network.purpose, value])


@message("network.remove_purpose")
def remove_purpose(call: Call, network: Row, value: str) -> None:
    call.db.update(network, purpose=[purpose for purpose in network.purpose if purpose != value])
