"""Hosts: taking them out of service, emptying them, asking them things.

Facts: FACTS 6 (xapi_host.ml); recorded: host_evacuate, PROBES-POWER.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.lab.classes.host_operations import check_operation
from deploy.lab.classes.host_plan import plan_evacuation
from deploy.lab.classes.wiring import pif_on
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.failover import check_plan
from deploy.lab.forward import call_within, forward
from deploy.lab.memory import free_memory
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL

EVACUATION_BATCH = 10


@message("host.disable")
async def disable(call: Call, host: Row, auto_enable: bool) -> None:
    check_plan(call.lab, without=host)
    machine = await forward(call, host.ref)
    machine.auto_enable = auto_enable
    call.db.update(host, enabled=False)
    refresh(call.lab, host)


@message("host.enable")
async def enable(call: Call, host: Row) -> None:
    machine = await forward(call, host.ref)
    if machine.going_down:
        raise XapiError("HOST_DISABLED_UNTIL_REBOOT", host.ref)
    machine.auto_enable = True
    call.db.update(host, enabled=True)
    refresh(call.lab, host)


# --- evacuation


@message("host.get_vms_which_prevent_evacuation")
def get_vms_which_prevent_evacuation(call: Call, host: Row) -> dict[str, list[str]]:
    return {
        vm: list(plan.description)
        for vm, plan in plan_evacuation(call.lab, host).items()
        if isinstance(plan, XapiError)
    }


@message("host.assert_can_evacuate")
def assert_can_evacuate(call: Call, host: Row) -> None:
    errors = get_vms_which_prevent_evacuation(call, host)
    if errors:
        text = "|".join(",".join(error) for error in errors.values())
        raise XapiError("CANNOT_EVACUATE_HOST", text)


@message("host.evacuate")
async def evacuate(call: Call, host: Row, network: str, evacuate_batch_size: int) -> None:
    """Move every VM away, a batch at a time; nothing moves if one of them cannot."""
    async with operation(call, host, "evacuate", check_operation):
        plan = plan_evacuation(call.lab, host)
        moves: list[tuple[str, Row]] = []
        for vm, target in plan.items():
            if isinstance(target, XapiError):
                raise target
            moves.append((vm, target))
        options = {} if network == NULL else {"network": network}
        size = evacuate_batch_size if evacuate_batch_size > 0 else EVACUATION_BATCH
        for first in range(0, len(moves), size):
            await _move_batch(call, moves[first : first + size], options | {"live": "true"})
            if call.task_row is not None:
                done = min(1.0, (first + size) / len(moves))
                call.db.update(call.task_row, progress=done)


async def _move_batch(call: Call, moves: list[tuple[str, Row]], options: dict[str, str]) -> None:
    results = await asyncio.gather(
        *(call_within(call, "VM.pool_migrate", vm, target.ref, options) for vm, target in moves),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


@message("host.get_uncooperative_resident_VMs")
def get_uncooperative_resident_vms(call: Call, host: Row) -> list[str]:
    return []


@message("host.retrieve_wlb_evacuate_recommendations")
def retrieve_wlb_evacuate_recommendations(call: Call, host: Row) -> dict[str, list[str]]:
    """Without workload balancing there is nobody to ask."""
    raise XapiError("WLB_NOT_INITIALIZED")


# --- asking


@message("host.compute_free_memory")
def compute_free_memory(call: Call, host: Row) -> int:
    return free_memory(call.lab, host)


@message("host.compute_memory_overhead")
def compute_memory_overhead(call: Call, host: Row) -> int:
    overhead: int = host.memory_overhead
    return overhead


@message("host.get_servertime", "host.get_server_localtime")
async def get_servertime(call: Call, host: Row) -> datetime:
    machine = await forward(call, host.ref)
    skewed = datetime.fromtimestamp(call.lab.clock.now(), UTC)
    return (skewed + timedelta(seconds=machine.clock_skew)).replace(microsecond=0)


@message("host.call_plugin")
async def call_plugin(call: Call, host: Row, plugin: str, fn: str, args: dict[str, str]) -> str:
    """The lab's hosts have no plugins."""
    await forward(call, host.ref)
    raise XapiError("XENAPI_MISSING_PLUGIN", plugin)


@message("host.has_extension")
async def has_extension(call: Call, host: Row, name: str) -> bool:
    await forward(call, host.ref)
    return False


@message("host.call_extension")
async def call_extension(call: Call, host: Row, name: str) -> str:
    await forward(call, host.ref)
    raise XapiError("MESSAGE_METHOD_UNKNOWN", name)


@message("host.get_management_interface")
async def get_management_interface(call: Call, host: Row) -> str:
    await forward(call, host.ref)
    for pif in call.db.rows("PIF", host.PIFs):
        if pif.management:
            return pif.ref
    raise XapiError("INTERNAL_ERROR", "Not_found")


@message("host.restart_agent")
async def restart_agent(call: Call, host: Row) -> None:
    machine = await forward(call, host.ref)
    machine.restart_toolstack()


@message("host.migrate_receive")
async def migrate_receive(
    call: Call, host: Row, network: str, options: dict[str, str]
) -> dict[str, Any]:
    """What VM.migrate_send needs to know of its destination.

    Raises HOST_CANNOT_ATTACH_NETWORK [host, network], PIF_HAS_NO_NETWORK_CONFIGURATION [pif],
    INTERFACE_HAS_NO_IP [pif]. Whether the host takes VMs is not asked here.
    """
    await forward(call, host.ref)
    pif = pif_on(call.lab, call.db.get("network", network), host)
    if pif is None:
        raise XapiError("HOST_CANNOT_ATTACH_NETWORK", host.ref, network)
    if not pif.IP:
        unset = pif.ip_configuration_mode == "None"
        code = "PIF_HAS_NO_NETWORK_CONFIGURATION" if unset else "INTERFACE_HAS_NO_IP"
        raise XapiError(code, pif.ref)
    assert call.session is not None
    master = call.lab.coordinator.address
    return {
        "SM": f"http://{pif.IP}/services/SM?session_id={call.session.ref}",
        "host": host.ref,
        "xenops": f"http://{pif.IP}/services/xenops?session_id={call.session.ref}",
        "session_id": call.session.ref,
        "master": f"http://{master}/",
    }
