"""Storage repositories (xen-api xapi_sr.ml; recorded: sr_pbd)."""

from __future__ import annotations

import logging
import uuid as uuids
from typing import Any

from deploy.lab import storage
from deploy.lab.classes import pbd as pbds
from deploy.lab.classes import sm, sr_operations
from deploy.lab.classes.storage_hosts import machine_for
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import call_within, forward
from deploy.lab.operations import operation, refresh

log = logging.getLogger(__name__)

STATEFILE_SIZE = 4 * 1024**2


@message("SR.create")
async def create(
    call: Call,
    host: str,
    device_config: dict[str, str],
    physical_size: int,
    name_label: str,
    name_description: str,
    kind: str,
    content_type: str,
    shared: bool,
    sm_config: dict[str, str],
) -> str:
    if call.db.find("host", host) is None:
        raise XapiError("HOST_OFFLINE", host)
    await forward(call, host)
    kind = _known_driver(call, kind)
    sr = _introduce(
        call,
        name_label=name_label,
        name_description=name_description,
        type=kind,
        content_type=content_type,
        shared=shared,
        sm_config=sm_config,
    )
    hosts = [row.ref for row in call.db.all("host")] if shared else [host]
    made = [pbds.make(call, sr, host=ref, device_config=device_config) for ref in hosts]
    try:
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.sr_create):
            storage.check_told_to_fail(device_config, "sr_create")
    except XapiError:
        for pbd in made:
            call.db.delete(pbd)
        call.db.delete(sr)
        raise
    size = physical_size if physical_size > 0 else pbds.DEFAULT_SIZE
    call.db.update(sr, physical_size=size, physical_utilisation=0)
    for pbd in made:
        await _plug_if_possible(call, pbd)
    refresh(call.lab, sr)
    return sr.ref


def _known_driver(call: Call, kind: str) -> str:
    if sm.driver_of(call.lab, kind.lower()) is None:
        raise XapiError("SR_UNKNOWN_DRIVER", kind.lower())
    return kind.lower()


async def _plug_if_possible(call: Call, pbd: Row) -> None:
    """A host that cannot be reached, or cannot plug, does not spoil the creation."""
    machine = call.lab.machine(pbd.host)
    if not (machine.answers_coordinator or machine.is_coordinator):
        return
    try:
        await call_within(call, "PBD.plug", pbd.ref)
    except XapiError as error:
        if error.code == "TASK_CANCELLED":
            raise
        log.warning("%s could not be plugged at %s: %s", pbd.uuid, machine.name, error)


def _introduce(call: Call, *, uuid: str = "", **fields: Any) -> Row:
    sr = call.db.create(
        "SR",
        uuid=uuid or str(uuids.uuid4()),
        physical_size=-1,
        physical_utilisation=-1,
        default_vdi_visibility=True,
        **fields,
    )
    refresh(call.lab, sr)
    return sr


@message("SR.introduce")
def introduce(
    call: Call,
    uuid: str,
    name_label: str,
    name_description: str,
    kind: str,
    content_type: str,
    shared: bool,
    sm_config: dict[str, str],
) -> str:
    if uuid in call.db.tables["SR"].by_uuid:
        raise XapiError("SR_UUID_EXISTS", uuid)
    return _introduce(
        call,
        uuid=uuid,
        name_label=name_label,
        name_description=name_description,
        type=kind.lower(),
        content_type=content_type,
        shared=shared,
        sm_config=sm_config,
    ).ref


@message("SR.make")
def make(call: Call, *_: object) -> str:
    raise XapiError("MESSAGE_DEPRECATED")


@message("SR.destroy")
async def destroy(call: Call, sr: Row) -> None:
    """Erase the SR and everything on it."""
    async with operation(call, sr, "destroy", sr_operations.check_operation):
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.sr_create):
            for vdi in call.db.rows("VDI", sr.VDIs):
                call.lab.storage.blocks.remove(vdi.uuid)
        call.lab.storage.known.erased(sr)
        _remove(call, sr)


@message("SR.forget")
async def forget(call: Call, sr: Row) -> None:
    """Take the SR from the database only: introduced again, it shows its disks again."""
    async with operation(call, sr, "forget", sr_operations.check_operation):
        for vdi in call.db.rows("VDI", sr.VDIs):
            if vdi.managed:
                call.lab.storage.known.remember(sr, vdi)
        _remove(call, sr)


def _remove(call: Call, sr: Row) -> None:
    for cls, refs in (("PBD", sr.PBDs), ("VDI", sr.VDIs)):
        for row in call.db.rows(cls, refs):
            call.db.delete(row)
    call.db.delete(sr)


@message("SR.scan")
async def scan(call: Call, sr: Row) -> None:
    """Make the database's disks those that the SR has."""
    async with operation(call, sr, "scan", sr_operations.check_operation):
        await machine_for(call, sr)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.scan):
            call.lab.storage.check_told_to_fail(sr, "sr_scan")
            pbds.measure(call, sr)
            call.lab.storage.known.scan(sr)


@message("SR.update")
async def update(call: Call, sr: Row) -> None:
    async with operation(call, sr, "update", sr_operations.check_operation):
        await machine_for(call, sr)
        async with call.lab.storage.working(sr.ref, call.lab.storage.times.update):
            call.lab.storage.account(sr)


@message("SR.probe")
async def probe(
    call: Call, host: str, device_config: dict[str, str], kind: str, sm_config: dict[str, str]
) -> str:
    """What SRs lie at the place: none that anyone has left there."""
    if call.db.find("host", host) is None:
        raise XapiError("HOST_OFFLINE", host)
    await forward(call, host)
    _known_driver(call, kind)
    storage.check_told_to_fail(device_config, "sr_probe")
    return '<?xml version="1.0" ?><SRlist></SRlist>'


@message("SR.get_supported_types")
def get_supported_types(call: Call) -> list[str]:
    return sm.types(call.lab)


@message("SR.get_live_hosts")
def get_live_hosts(call: Call, sr: Row) -> list[str]:
    """The enabled, live hosts that have the SR plugged."""
    plugged = [p.host for p in call.db.rows("PBD", sr.PBDs) if p.currently_attached]
    live = []
    for host in call.db.rows("host", plugged):
        metrics = call.db.find("host_metrics", host.metrics)
        if host.enabled and metrics is not None and metrics.live:
            live.append(host.ref)
    return live


@message("SR.assert_can_host_ha_statefile")
def assert_can_host_ha_statefile(call: Call, sr: Row) -> None:
    """Every host has to have the SR plugged (recorded: a local one → SR_HAS_NO_PBDS)."""
    _check_seen_by_all(call, sr)
    if "VDI_GENERATE_CONFIG" not in sm.features(call.lab, sr):
        raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)
    free = call.lab.storage.free(sr)
    if free is not None and free < STATEFILE_SIZE:
        raise XapiError("SR_SOURCE_SPACE_INSUFFICIENT", sr.ref)


@message("SR.assert_supports_database_replication")
def assert_supports_database_replication(call: Call, sr: Row) -> None:
    _check_seen_by_all(call, sr)
    if "VDI_GENERATE_CONFIG" not in sm.features(call.lab, sr):
        raise XapiError("SR_OPERATION_NOT_SUPPORTED", sr.ref)


def _check_seen_by_all(call: Call, sr: Row) -> None:
    plugged = {p.host for p in call.db.rows("PBD", sr.PBDs) if p.currently_attached}
    if not plugged.issuperset(call.db.tables["host"].rows):
        raise XapiError("SR_HAS_NO_PBDS", sr.ref)


# --- fields


@message("SR.set_name_label")
async def set_name_label(call: Call, sr: Row, value: str) -> None:
    await machine_for(call, sr)
    call.db.update(sr, name_label=value)


@message("SR.set_name_description")
async def set_name_description(call: Call, sr: Row, value: str) -> None:
    await machine_for(call, sr)
    call.db.update(sr, name_description=value)


@message("SR.set_shared")
def set_shared(call: Call, sr: Row, value: bool) -> None:
    if not value and len(sr.PBDs) > 1:
        raise XapiError("SR_HAS_MULTIPLE_PBDS", *sr.PBDs)
    call.db.update(sr, shared=value)


@message("SR.set_physical_size", "SR.set_virtual_allocation", "SR.set_physical_utilisation")
def set_by_backends_only(call: Call, sr: Row, value: int) -> None:
    raise XapiError("PERMISSION_DENIED", "")
