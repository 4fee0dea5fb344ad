"""Tenant networks: a network and, where it leaves the host, a VLAN interface on every host."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from worker.hypervisor.port import (
    Gone,
    NetworkRecord,
    NetworkSpec,
    NoRoom,
    PifRecord,
    Refused,
)
from worker.hypervisor.xapi import records
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.making import first_of
from worker.hypervisor.xapi.records import Raw, is_null

POOL_WIDE_SECONDS: Final = 60.0


class Networks:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def ensure_network(self, spec: NetworkSpec) -> NetworkRecord:
        found = first_of(self._calls.where("network", name__label=spec.name), spec.marker)
        if found is not None:
            return records.network_record(found[1], self._calls.resolve)
        fields = {
            "name_label": spec.name,
            "name_description": spec.description,
            "MTU": str(spec.mtu),
            "other_config": dict(spec.marker),
            "tags": [],
            "bridge": "",
            "managed": True,
        }
        ref = str(self._calls.call("network.create", fields))
        return records.network_record(self._calls.record_of("network", ref), self._calls.resolve)

    def ensure_vlan(self, network: UUID, *, device: str, tag: int) -> tuple[PifRecord, ...]:
        """One call for a new VLAN; host by host for those that were away or joined since."""
        network_ref = self._calls.ref("network", network)
        pifs = self._calls.where("PIF", device=device)
        base = {raw["host"]: ref for ref, raw in pifs.items() if int(raw["VLAN"]) == -1}
        if not base:
            raise NoRoom("network_not_reachable")
        if not any(raw["network"] == network_ref for raw in pifs.values()):
            some = base[min(base)]
            self._calls.call(
                "pool.create_VLAN_from_PIF", some, network_ref, str(tag), timeout=POOL_WIDE_SECONDS
            )
            pifs = self._calls.where("PIF", device=device)
        self._complete(network_ref, tag, base, pifs)
        made = self._calls.where("PIF", network=network_ref).values()
        return tuple(records.pif_record(raw, self._calls.resolve) for raw in made)

    def _complete(
        self, network_ref: str, tag: int, base: Mapping[str, str], pifs: Mapping[str, Raw]
    ) -> None:
        there = {raw["host"]: raw for raw in pifs.values() if raw["network"] == network_ref}
        if any(int(raw["VLAN"]) != tag for raw in there.values()):
            raise Refused("conflict")
        for host in sorted(base.keys() - there.keys()):
            if not self._is_live(host):
                continue
            vlan = self._calls.call("VLAN.create", base[host], str(tag), network_ref)
            pif = self._calls.read("VLAN.get_untagged_PIF", vlan)
            self._calls.call("PIF.plug", pif)

    def _is_live(self, host_ref: str) -> bool:
        metrics = self._calls.read("host.get_metrics", host_ref)
        return not is_null(metrics) and bool(self._calls.read("host_metrics.get_live", metrics))

    def destroy_network(self, network: UUID) -> None:
        try:
            raw = self._calls.record("network", network)
        except Gone:
            return
        if not records.marker_of(raw):
            raise Refused("not_ours")
        network_ref = self._calls.ref("network", network)
        try:
            for pif in self._calls.where("PIF", network=network_ref).values():
                if not is_null(pif["VLAN_master_of"]):
                    self._calls.call("VLAN.destroy", pif["VLAN_master_of"])
            self._calls.call("network.destroy", network_ref)
        except Gone:  # another attempt was faster; what is left is found by the next one
            return
