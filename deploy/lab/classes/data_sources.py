"""Asking for single measurements: get_data_sources, query_data_source and their like.

Recorded: http_rrd, PROBES (host.get_data_sources, VM.query_data_source).
"""

from __future__ import annotations

from typing import Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.measurements import Source, host_sources, vm_sources


def _describe(source: Source, now: float) -> dict[str, Any]:
    return {
        "name_label": source.name,
        "name_description": source.description,
        "enabled": True,
        "standard": True,
        "units": source.units,
        "min": source.minimum,
        "max": source.maximum,
        "value": source.at(now),
    }


def _value(sources: list[Source], name: str, now: float) -> float:
    for source in sources:
        if source.name == name:
            return source.at(now)
    raise XapiError(
        "INTERNAL_ERROR",
        f'IDL Error: [S(Rrdd_internal_error);S(Rrd.Invalid_data_source("{name}"))]',
    )


@message("host.get_data_sources")
async def host_data_sources(call: Call, host: Row) -> list[dict[str, Any]]:
    machine = await forward(call, host.ref)
    now = call.lab.clock.now()
    return [_describe(source, now) for source in host_sources(machine)]


@message("host.query_data_source")
async def query_host(call: Call, host: Row, name: str) -> float:
    machine = await forward(call, host.ref)
    return _value(host_sources(machine), name, call.lab.clock.now())


@message("host.record_data_source", "host.forget_data_source_archives")
async def choose_host_source(call: Call, host: Row, name: str) -> None:
    """Every source is always recorded here; asking for one that exists changes nothing."""
    machine = await forward(call, host.ref)
    _value(host_sources(machine), name, call.lab.clock.now())


async def _vm_sources(call: Call, vm: Row) -> list[Source]:
    if vm.power_state not in ("Running", "Paused"):
        raise XapiError("VM_BAD_POWER_STATE", vm.ref, "running;paused", vm.power_state.lower())
    machine = await forward(call, vm.resident_on)
    return vm_sources(machine, vm)


@message("VM.get_data_sources")
async def vm_data_sources(call: Call, vm: Row) -> list[dict[str, Any]]:
    now = call.lab.clock.now()
    return [_describe(source, now) for source in await _vm_sources(call, vm)]


@message("VM.query_data_source")
async def query_vm(call: Call, vm: Row, name: str) -> float:
    sources = await _vm_sources(call, vm)
    if not sources:
        missing = f"Rrd_interface.Rrdd_error([S(Datasource_missing);S(VM: {vm.uuid})])"
        raise XapiError("INTERNAL_ERROR", f"IDL Error: [S(Rrdd_internal_error);S({missing})]")
    return _value(sources, name, call.lab.clock.now())


@message("VM.record_data_source", "VM.forget_data_source_archives")
async def choose_vm_source(call: Call, vm: Row, name: str) -> None:
    _value(await _vm_sources(call, vm), name, call.lab.clock.now())
