"""The networks of the pool in memory (worker/tests/fakepool.py): VLANs on hosts, and VIFs that need them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from worker.hypervisor.port import (
    Gone,
    NetworkRecord,
    NetworkSpec,
    NoRoom,
    PifRecord,
    Refused,
    VifRecord,
    VifSpec,
)


@dataclass
class FakeNetworks:
    """`vlans`: network → its device, its tag, and the hosts that have it. `bare`: hosts without a device."""

    networks_by_uuid: dict[UUID, NetworkRecord] = field(default_factory=dict)
    vlans: dict[UUID, tuple[str, int, set[UUID]]] = field(default_factory=dict)
    vifs_by_uuid: dict[UUID, VifRecord] = field(default_factory=dict)
    bare: set[UUID] = field(default_factory=set)

    def networks(self) -> tuple[NetworkRecord, ...]:
        return tuple(self.networks_by_uuid.values())

    def ensure_network(self, spec: NetworkSpec) -> NetworkRecord:
        for network in self.networks_by_uuid.values():
            if network.name == spec.name:
                return network
        made = NetworkRecord(uuid4(), spec.name, "xapi1", spec.mtu, marker=dict(spec.marker))
        self.networks_by_uuid[made.uuid] = made
        return made

    def extend_vlan(self, network: UUID, device: str, tag: int, hosts: Iterable[UUID]) -> None:
        self._network(network)
        for other, (its_device, its_tag, _) in self.vlans.items():
            if other != network and (its_device, its_tag) == (device, tag):
                raise Refused("conflict")
        known = self.vlans.setdefault(network, (device, tag, set()))
        if known[:2] != (device, tag):
            raise Refused("conflict")
        known[2].update(set(hosts) - self.bare)

    def pifs_of(self, network: UUID) -> tuple[PifRecord, ...]:
        device, tag, hosts = self.vlans[network]
        return tuple(PifRecord(uuid4(), host, network, device, tag) for host in hosts)

    def ensure_vif(self, spec: VifSpec, *, plug: bool = False) -> None:
        self._network(spec.network)
        vif = self._vif(spec)
        self.vifs_by_uuid[vif.uuid] = vif
        if plug:
            self.vifs_by_uuid[vif.uuid] = self.plug_vif(vif)

    def plug_vif(self, vif: VifRecord) -> VifRecord:
        raise NotImplementedError

    def _vif(self, spec: VifSpec) -> VifRecord:
        """The one that is there, or another."""
        for vif in self.vifs_by_uuid.values():
            if (vif.vm, vif.device) == (spec.vm, spec.device):
                if vif.mac != spec.mac:
                    raise Refused("conflict")
                return replace(
                    vif,
                    network=spec.network,
                    locking_mode=spec.locking_mode,
                    ipv4_allowed=spec.ipv4_allowed,
                    ipv6_allowed=spec.ipv6_allowed,
                )
        return VifRecord(
            uuid4(),
            spec.vm,
            spec.network,
            spec.device,
            spec.mac,
            spec.locking_mode,
            spec.ipv4_allowed,
            spec.ipv6_allowed,
        )

    def vifs(self, vm: UUID) -> tuple[VifRecord, ...]:
        return tuple(vif for vif in self.vifs_by_uuid.values() if vif.vm == vm)

    def destroy_network(self, network: UUID) -> None:
        if any(vif.network == network for vif in self.vifs_by_uuid.values()):
            raise Refused("network_in_use")
        self.networks_by_uuid.pop(network, None)
        self.vlans.pop(network, None)

    def must_reach_networks(self, vm: UUID, host: UUID) -> None:
        """XAPI starts or moves a VM to no host that one of its networks is not on."""
        for vif in self.vifs(vm):
            assert vif.network is not None
            self._network(vif.network)
            if vif.network in self.vlans and host not in self.vlans[vif.network][2]:
                raise NoRoom("network_not_reachable")

    def drop_vifs(self, vm: UUID) -> None:
        self.vifs_by_uuid = {k: vif for k, vif in self.vifs_by_uuid.items() if vif.vm != vm}

    def _network(self, network: UUID) -> NetworkRecord:
        try:
            return self.networks_by_uuid[network]
        except KeyError:
            raise Gone("gone") from None
