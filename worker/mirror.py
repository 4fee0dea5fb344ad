"""Writes what a watcher learned into the mirror's rows: a constant number of queries for each batch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from django.db import models, transaction
from django.db.models.functions import Now

from hosting import labels
from hosting.fleet.models import (
    Host,
    Network,
    Pbd,
    Pool,
    StorageRepository,
    Vbd,
    Vdi,
    Vif,
    VirtualMachine,
)
from worker.hypervisor.port import (
    Changes,
    HostRecord,
    NetworkRecord,
    PbdRecord,
    PoolRecord,
    SrRecord,
    TaskRecord,
    VbdRecord,
    VdiRecord,
    VifRecord,
    VmRecord,
)


@dataclass(slots=True)
class Touched:
    """What a batch was about. `subjects`: column of Operation → uuids whose operations should look;
    `shown`: instances of which pages show something else now.
    """

    kinds: set[str] = field(default_factory=set)
    shown: set[UUID] = field(default_factory=set)
    subjects: defaultdict[str, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    operations: set[UUID] = field(default_factory=set)


def apply(pool: UUID, changes: Changes) -> Touched:
    """Bring the pool's rows in step with `changes`, in one transaction: the caller's if it has one.

    Applying twice is harmless.
    """
    found: dict[str, dict[UUID, Any]] = defaultdict(dict)
    for record in changes.records:
        found[record.kind][record.uuid] = record  # of several of one object the last is newest
    gone: dict[str, set[UUID]] = defaultdict(set)
    for removed in changes.removed:
        gone[removed.kind].add(removed.uuid)

    with transaction.atomic(savepoint=False):
        touched = _touched(pool, found)
        for kind, table in _TABLES.items():
            # First what left: an object that left and came back in one batch is here.
            rows = _rows_that_left(table.model, pool, found[kind], gone[kind], full=changes.full)
            if rows is not None:
                if table.model is VirtualMachine:
                    left = _instances(rows)
                    touched.subjects["instance"].update(left)
                    touched.shown.update(left)
                if _leave(table.model, rows):
                    touched.kinds.add(kind)
            if found[kind]:
                _upsert(table, pool, found[kind].values())
                touched.kinds.add(kind)
        _write_pool(pool, changes, found)
        hosts = Host.objects.filter(pool=pool)
        if changes.full or gone["host"] or gone["vm"] or _has_foreign(found["vm"]):
            hosts.measure_capacity()
        elif found["host"]:
            hosts.filter(pk__in=list(found["host"])).measure_capacity()
    return touched


def _has_foreign(vms: Mapping[UUID, VmRecord]) -> bool:
    """Of VMs only these matter to what a host has for ours: a start of ours measures no host."""
    owners = (labels.INSTANCE, labels.BLANK)
    return any(
        all(labels.uuid_in(vm.marker.get(owner)) is None for owner in owners) for vm in vms.values()
    )


# ------------------------------------------------------------------------------------------------- rows


def _host(record: HostRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "address": record.address,
        "enabled": record.enabled,
        "live": record.live,
        "cpu_count": max(record.cpu_count, 0),
        "memory_total_bytes": record.memory_total_bytes,
        "memory_overhead_bytes": record.memory_overhead_bytes,
        "memory_free_bytes": record.memory_free_bytes,
        "version": _version(record),
        "heartbeat_at": record.heartbeat_at,
        "gone_at": None,
    }


def _version(record: HostRecord) -> str:
    said = record.software_version
    return f"{said.get('product_brand', '')} {said.get('product_version', '')}".strip()


def _sr(record: SrRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "type": record.type,
        "content_type": record.content_type,
        "shared": record.shared,
        "physical_size_bytes": record.physical_size_bytes,
        "physical_utilisation_bytes": record.physical_utilisation_bytes,
        "virtual_allocation_bytes": record.virtual_allocation_bytes,
    }


def _pbd(record: PbdRecord) -> dict[str, Any]:
    return {
        "host_id": record.host,
        "sr_id": record.sr,
        "currently_attached": record.currently_attached,
    }


def _network(record: NetworkRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "bridge": record.bridge,
        "mtu": record.mtu,
        "marker": dict(record.marker),
    }


def _vdi(record: VdiRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "sr_id": record.sr,
        "virtual_size_bytes": record.virtual_size_bytes,
        "physical_utilisation_bytes": record.physical_utilisation_bytes,
        "type": record.type,
        "is_a_snapshot": record.is_a_snapshot,
        "missing": record.missing,
        "marker": dict(record.marker),
        "locked_by": [str(host) for host in record.locked_by],
    }


def _vm(record: VmRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "power_state": record.power_state,
        "resident_on_id": record.resident_on,
        "scheduled_to_be_resident_on_id": record.scheduled_to_be_resident_on,
        "is_a_template": record.is_a_template,
        "is_a_snapshot": record.is_a_snapshot,
        "is_control_domain": record.is_control_domain,
        "memory_bytes": record.memory_bytes,
        "memory_overhead_bytes": record.memory_overhead_bytes,
        "vcpus": record.vcpus,
        "marker": dict(record.marker),
        "instance_uuid": labels.uuid_in(record.marker.get(labels.INSTANCE)),
        "blank_uuid": labels.uuid_in(record.marker.get(labels.BLANK)),
        "current_operations": sorted(now.operation for now in record.current_operations),
        "started_at": record.started_at,
        "pv_drivers_detected": record.guest is not None and record.guest.pv_drivers_detected,
        "guest_networks": dict(record.guest.networks) if record.guest else {},
        "vm_data": dict(record.vm_data),
    }


def _vbd(record: VbdRecord) -> dict[str, Any]:
    return {
        "vm_id": record.vm,
        "vdi_id": record.vdi,
        "device": record.device,
        "currently_attached": record.currently_attached,
    }


def _vif(record: VifRecord) -> dict[str, Any]:
    return {
        "vm_id": record.vm,
        "network_id": record.network,
        "device": record.device,
        "mac": record.mac,
        "locking_mode": record.locking_mode,
        "ipv4_allowed": list(record.ipv4_allowed),
        "currently_attached": record.currently_attached,
    }


@dataclass(frozen=True, slots=True)
class _Table:
    model: type[models.Model]
    row: Callable[[Any], dict[str, Any]]


_TABLES: Mapping[str, _Table] = {
    "host": _Table(Host, _host),
    "sr": _Table(StorageRepository, _sr),
    "pbd": _Table(Pbd, _pbd),
    "network": _Table(Network, _network),
    "vdi": _Table(Vdi, _vdi),
    "vm": _Table(VirtualMachine, _vm),
    "vbd": _Table(Vbd, _vbd),
    "vif": _Table(Vif, _vif),
}


# ---------------------------------------------------------------------------------------------- writing


def _upsert(table: _Table, pool: UUID, records: Iterable[Any]) -> None:
    lengths = _lengths(table.model)
    rows = [
        {name: _fitting(value, lengths.get(name)) for name, value in table.row(record).items()}
        | {"uuid": record.uuid}
        for record in records
    ]
    written = [name.removesuffix("_id") for name in rows[0] if name != "uuid"]
    table.model._default_manager.bulk_create(
        [table.model(pool_id=pool, **row) for row in rows],
        update_conflicts=True,
        unique_fields=["uuid"],
        update_fields=["pool", *written],
    )


def _rows_that_left(
    model: type[models.Model],
    pool: UUID,
    found: Mapping[UUID, Any],
    gone: set[UUID],
    *,
    full: bool,
) -> models.QuerySet[Any] | None:
    """The rows that the pool has no more; None when it certainly has all."""
    here = model._default_manager.filter(pool=pool)
    if full:
        return here.exclude(uuid__in=list(found))
    return here.filter(uuid__in=gone) if gone else None


def _leave(model: type[models.Model], rows: models.QuerySet[Any]) -> int:
    if model is Host:
        # A host carries the ledger: its state, what is reserved on it, its operations.
        return rows.filter(gone_at=None).update(gone_at=Now(), live=False, enabled=False)
    return rows.delete()[0]


def _write_pool(pool: UUID, changes: Changes, found: Mapping[str, Mapping[UUID, Any]]) -> None:
    seen: dict[str, Any] = {}
    if changes.full and changes.master is not None:
        seen["master_id"] = changes.master
    master = found["host"].get(changes.master) if changes.master is not None else None
    if master is not None:
        seen["version"] = _fitting(_version(master), _lengths(Pool)["version"])
    for record in found["pool"].values():
        assert isinstance(record, PoolRecord)
        seen["default_sr_uuid"] = record.default_sr
        seen["ha_enabled"] = record.ha_enabled
    if seen:
        Pool.objects.filter(pk=pool).update(**seen)


# ---------------------------------------------------------------------------------------- who should look


def _touched(pool: UUID, found: Mapping[str, Mapping[UUID, Any]]) -> Touched:
    touched = Touched()
    subjects = touched.subjects
    if found["pool"]:
        touched.kinds.add("pool")
        subjects["pool"].add(pool)
    subjects["host"].update(found["host"])
    for was, now in _news_of(found["vm"]):
        instance = now["instance_uuid"]
        touched.shown.update(_known(instance))
        if now["blank_uuid"] is not None:
            subjects["blank"].add(now["blank_uuid"])
        if not _begins(was, now):
            subjects["instance"].update(_known(instance))
    for vm in found["vm"].values():
        subjects["host"].update(_known(vm.resident_on, vm.scheduled_to_be_resident_on))
    for task in found["task"].values():
        assert isinstance(task, TaskRecord)
        operation = labels.uuid_in(task.marker.get(labels.OPERATION))
        if operation is not None and task.is_finished:
            touched.operations.add(operation)
    return touched


Row: TypeAlias = Mapping[str, Any]
"""Of a VM, by its columns."""


def _news_of(vms: Mapping[UUID, VmRecord]) -> Iterator[tuple[Row | None, Row]]:
    """Those of which something came about that somebody may wait for or see: as each was, and as it is.

    XAPI tells of a VM at each of its devices and at each thing that is begun with it: mostly of what an
    operation of ours does at this moment. One query.
    """
    rows = VirtualMachine.objects.filter(pk__in=vms).order_by().values(*_NEWS)
    before = {row["uuid"]: row for row in rows}
    for uuid, vm in vms.items():
        was, now = before.get(uuid), _vm(vm)
        if was is None or _ended(was, now) or any(was[name] != now[name] for name in _WAITED_FOR):
            yield was, now


def _begins(was: Row | None, now: Row) -> bool:
    """It was made, or runs and its guest is not up: whoever did that knows, and waits for the guest."""
    if now["power_state"] == "Halted":
        return was is None
    is_booting = now["power_state"] == "Running" and not now["pv_drivers_detected"]
    return is_booting and (was is None or was["power_state"] == "Halted")


def _ended(was: Row, now: Row) -> bool:
    """Something that was under way ended; a start tells by what came of it, when that is well."""
    ended = set(was["current_operations"]) - set(now["current_operations"])
    return bool(ended - ({"start_on"} if now["power_state"] == "Running" else set()))


_WAITED_FOR = ("power_state", "resident_on_id", "pv_drivers_detected", "vm_data", "instance_uuid")
_NEWS = ("uuid", "current_operations", *_WAITED_FOR)


def _known(*uuids: UUID | None) -> Iterator[UUID]:
    return (uuid for uuid in uuids if uuid is not None)


def _instances(rows: models.QuerySet[VirtualMachine]) -> list[UUID]:
    """The instances of VMs that left."""
    return list(_known(*rows.values_list("instance_uuid", flat=True)))


# ------------------------------------------------------------------------------------- what may be stored

# PostgreSQL stores no NUL and no half of a surrogate pair, and guests may write either.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _lengths(model: type[models.Model]) -> dict[str, int]:
    return {
        one.name: one.max_length
        for one in model._meta.concrete_fields
        if isinstance(one, models.CharField) and one.max_length is not None
    }


def _fitting(value: Any, length: int | None) -> Any:
    """`value` as the database can hold it: one odd object must not blind us to the whole pool."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("�", value)[:length]
    if isinstance(value, dict):
        return {_fitting(key, None): _fitting(one, None) for key, one in value.items()}
    if isinstance(value, list):
        return [_fitting(one, None) for one in value]
    return value
