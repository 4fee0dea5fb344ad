"""Reading the pool's objects now."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from worker.hypervisor.port import (
    Gone,
    HostRecord,
    HypervisorError,
    MessageRecord,
    NetworkRecord,
    PbdRecord,
    PifRecord,
    PoolRecord,
    SrRecord,
    VbdRecord,
    VdiRecord,
    VifRecord,
    VmRecord,
)
from worker.hypervisor.xapi import records
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.errors import translate_code
from worker.hypervisor.xapi.records import Raw

T = TypeVar("T")


class Reading:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def pool(self) -> PoolRecord:
        for raw in self._calls.all_records("pool").values():
            return records.pool_record(raw, self._calls.resolve)
        raise Gone("gone")

    # hosts --------------------------------------------------------------------------------------

    def hosts(self) -> tuple[HostRecord, ...]:
        metrics = self._calls.all_records("host_metrics")
        return tuple(
            records.host_record(raw, metrics.get(raw["metrics"], {}), self._calls.resolve)
            for raw in self._calls.all_records("host").values()
        )

    def host(self, host: UUID) -> HostRecord:
        raw = self._calls.record("host", host)
        metrics = self._part("host_metrics", raw["metrics"])
        return records.host_record(raw, metrics or {}, self._calls.resolve)

    def free_memory_bytes(self, host: UUID) -> int:
        return int(
            self._calls.on("host", host, lambda r: self._calls.read("host.compute_free_memory", r))
        )

    def assert_can_boot_here(self, vm: UUID, host: UUID) -> None:
        vm_ref, host_ref = self._calls.ref("VM", vm), self._calls.ref("host", host)
        self._calls.read("VM.assert_can_boot_here", vm_ref, host_ref)

    def vms_preventing_evacuation(self, host: UUID) -> Mapping[UUID, str]:
        found = self._calls.on(
            "host",
            host,
            lambda ref: self._calls.read("host.get_vms_which_prevent_evacuation", ref),
        )
        reasons = {self._calls.resolve("vm", ref): _reason(info) for ref, info in found.items()}
        return {vm: reason for vm, reason in reasons.items() if vm is not None}

    def server_time(self, host: UUID) -> datetime:
        answer = self._calls.on(
            "host", host, lambda ref: self._calls.read("host.get_servertime", ref)
        )
        return records.moment(answer) or datetime.fromtimestamp(0, UTC)

    # storage and networks -----------------------------------------------------------------------

    def srs(self) -> tuple[SrRecord, ...]:
        return self._all("SR", records.sr_record)

    def pbds(self) -> tuple[PbdRecord, ...]:
        return self._all("PBD", records.pbd_record)

    def networks(self) -> tuple[NetworkRecord, ...]:
        return self._all("network", records.network_record)

    def pifs(self) -> tuple[PifRecord, ...]:
        return self._all("PIF", records.pif_record)

    def vdis(self) -> tuple[VdiRecord, ...]:
        return self._all("VDI", records.vdi_record)

    def vdi(self, vdi: UUID) -> VdiRecord:
        return records.vdi_record(self._calls.record("VDI", vdi), self._calls.resolve)

    # VMs ----------------------------------------------------------------------------------------

    def vms(self) -> tuple[VmRecord, ...]:
        metrics = self._calls.all_records("VM_metrics")
        guests = self._calls.all_records("VM_guest_metrics")
        return tuple(
            records.vm_record(
                raw,
                metrics.get(raw["metrics"], {}),
                guests.get(raw["guest_metrics"]),
                self._calls.resolve,
            )
            for raw in self._calls.all_records("VM").values()
        )

    def vm(self, vm: UUID) -> VmRecord:
        return self.vm_of(self._calls.record("VM", vm))

    def vm_of(self, raw: Raw) -> VmRecord:
        """With its metrics, which a Halted one has nothing to say in."""
        metrics = guest = None
        if raw["power_state"] != "Halted":
            metrics = self._part("VM_metrics", raw["metrics"])
            guest = self._part("VM_guest_metrics", raw["guest_metrics"])
        return records.vm_record(raw, metrics or {}, guest, self._calls.resolve)

    def vbds(self, vm: UUID) -> tuple[VbdRecord, ...]:
        found = self._calls.where("VBD", VM=self._calls.ref("VM", vm)).values()
        made = [records.vbd_record(raw, self._calls.resolve) for raw in found]
        return tuple(sorted(made, key=lambda vbd: vbd.device))

    def vifs(self, vm: UUID) -> tuple[VifRecord, ...]:
        found = self._calls.where("VIF", VM=self._calls.ref("VM", vm)).values()
        made = [records.vif_record(raw, self._calls.resolve) for raw in found]
        return tuple(sorted(made, key=lambda vif: vif.device))

    def messages(self, since: datetime) -> tuple[MessageRecord, ...]:
        at = since.astimezone(UTC).strftime("%Y%m%dT%H:%M:%SZ")
        found = self._calls.read("message.get_since", at)
        for ref, raw in found.items():
            self._calls.learn("message", ref, UUID(raw["uuid"]))
        made = [records.message_record(raw, self._calls.resolve) for raw in found.values()]
        return tuple(sorted(made, key=lambda m: (m.at is not None, m.at)))

    # ----------------------------------------------------------------------------------------------

    def _all(self, kind: str, make: Callable[[Raw, records.Resolver], T]) -> tuple[T, ...]:
        return tuple(
            make(raw, self._calls.resolve) for raw in self._calls.all_records(kind).values()
        )

    def _part(self, kind: str, ref: str) -> Raw | None:
        if records.is_null(ref):
            return None
        try:
            raw: Raw = self._calls.read(f"{kind}.get_record", ref)
        except Gone:  # replaced since its owner was read
            return None
        return raw


def _reason(info: list[str]) -> str:
    error = translate_code(info[0] if info else "")
    return error.reason if isinstance(error, HypervisorError) else "unknown"
