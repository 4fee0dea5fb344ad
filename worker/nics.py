"""An instance's interface on its tenant's network: an address for it, and the network in its pool.

What a remote step must know of it is the fact `nic`: `network` (XAPI's, by uuid), `mac`, `address` (with
the length of its prefix) and `gateway`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from hosting import labels
from hosting.compute.models import Instance
from hosting.fleet.models import Pool
from hosting.networks.addresses import gateway_of
from hosting.networks.models import Network, Segment
from worker.hypervisor.port import Gone, Hypervisor, NetworkSpec, VifSpec
from worker.workflow import Spawn, Wait, Workflow

Nic: TypeAlias = Mapping[str, Any]

DEVICE = 0
MTU = 1500
SOON = timedelta(seconds=5)
FULL = timedelta(seconds=30)


class NetworkLost(Exception):
    """The pool does not know the network that the ledger says was made there."""


def take_nic(instance: Instance, *, mac: str = "") -> Wait | Spawn[Segment] | Nic | None:
    """Its address and its network, taken if it is new; None where it has no interface.

    In a ledger step, with the instance, as it is, in a pool. One that has run keeps what it was given then. `mac`: of
    the interface that waits for it in a blank. Wait: nothing is free. Spawn: the network is still to be made in the pool.
    """
    pool = instance.pool
    assert pool is not None
    # Once it has an address, there may be a VM with it.
    if instance.published_at is None and instance.network is None and pool.network_device:
        full = _take_address(instance, mac)
        if full is not None:
            return full
    if instance.network is None:
        return None
    return _on_segment(instance, instance.network, pool)


def _take_address(instance: Instance, mac: str) -> Wait | None:
    network = Network.objects.take(instance.container.tenant_id)
    if network is None:
        return Wait(FULL, "No subnet is left for the tenant's network.")
    if not Instance.objects.all().take_address(instance, network, mac):
        return Wait(FULL, f"All addresses of the tenant's network {network.subnet} are taken.")
    return None


def _on_segment(instance: Instance, network: Network, pool: Pool) -> Wait | Spawn[Segment] | Nic:
    # It is on it already if it has run, so that nobody retires it.
    segments = Segment.objects.all()
    segment = segments.of(network, pool) if instance.published_at else segments.take(network, pool)
    if segment is None:
        return Wait(FULL, "No VLAN is left in the pool for the tenant's network.")
    if segment.retired_at is not None:
        return Wait(SOON, "The tenant's network is being removed here, and made anew then.")
    if segment.network_uuid is None:
        # By its name: it is one of the workflows, and they stand upon this.
        build = Workflow.registry["network.build"]
        return Spawn(build, [segment], SOON, "The tenant's network is being made.")
    return {
        "network": str(segment.network_uuid),
        "mac": instance.mac,
        "address": f"{instance.ip}/{network.subnet.prefixlen}",
        "gateway": str(gateway_of(network.subnet)),
    }


def build_nic(hypervisor: Hypervisor, vm: UUID, nic: Nic, *, plug: bool = False) -> None:
    """One that it has already, by its MAC, comes to this network. Raises NetworkLost."""
    network = UUID(nic["network"])
    allowed = (_bare(nic["address"]),)
    try:
        hypervisor.ensure_vif(
            VifSpec(vm, network, DEVICE, nic["mac"], ipv4_allowed=allowed, mtu=MTU), plug=plug
        )
    except Gone as gone:
        if network in {there.uuid for there in hypervisor.networks()}:
            raise  # so it is the VM that is gone
        raise NetworkLost(network) from gone


def park_nic(hypervisor: Hypervisor, vm: UUID, host: UUID, mac: str) -> None:
    """An interface on the network of that host that leads nowhere, through which no frame passes.

    Of the host, for a network without PIFs keeps whoever is on it where the first one started (xapi_network.ml).
    """
    marker = {labels.PARKING: str(host)}
    parking = hypervisor.ensure_network(NetworkSpec(labels.parking_name(host), marker, mtu=MTU))
    hypervisor.ensure_vif(VifSpec(vm, parking.uuid, DEVICE, mac, locking_mode="disabled", mtu=MTU))


def forget_network(nic: Nic) -> None:
    """It has to be made again. In a ledger step."""
    Segment.objects.all().forget(UUID(nic["network"]))


def config_of(nic: Nic, hostname: str) -> dict[str, Any]:
    """What the guest's init is told of it."""
    interface = {
        "device": DEVICE,
        "mac": nic["mac"],
        "mtu": MTU,
        "addresses": [nic["address"]],
        "gateway4": nic["gateway"],
    }
    return {
        "network": [interface],
        "resolv": {"nameservers": [nic["gateway"]], "search": []},
        "hosts": {hostname: [_bare(nic["address"])]},
    }


def _bare(address: str) -> str:
    return address.partition("/")[0]
