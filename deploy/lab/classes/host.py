"""Hosts: taking them out of service, emptying them, asking them things.

Facts: FACTS 6 (xapi_host.ml); recorded: host_evacuate, PROBES-POWER.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.lab.classes.host_operations import check_operation
from deploy.lab.classes.host_plan import plan_evacuation
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.failover import check_plan
from deploy.lab.forward import call_within, forward
from deploy.lab.memory import free_memory
from deploy.lab.operations import operation, refresh
from deploy.lab.schema import NULL, SCHEMA

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
    """Without workload balancing: the plan that evacuate would follow."""
    return {
        vm: list(plan.description) if isinstance(plan, XapiError) else ["WLB", plan.ref, "0", "0"]
        for vm, plan in plan_evacuation(call.lab, host).items()
    }


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


@message("host.list_methods")
def list_methods(call: Call) -> list[str]:
    return list(SCHEMA.messages)


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
    raise XapiError("HOST_HAS_NO_MANAGEMENT_IP")


@message("host.dmesg", "host.dmesg_clear", "host.get_log")
async def read_log(call: Call, host: Row) -> str:
    await forward(call, host.ref)
    return ""


@message("host.sync_data", "host.syslog_reconfigure", "host.refresh_pack_info")
async def do_nothing_visible(call: Call, host: Row) -> None:
    await forward(call, host.ref)


@message("host.set_hostname_live")
async def set_hostname_live(call: Call, host: Row, hostname: str) -> None:
    if not hostname or len(hostname) > 255 or not hostname.replace("-", "").isalnum():
        raise XapiError("HOST_NAME_INVALID", "hostname is not valid")
    await forward(call, host.ref)
    call.db.update(host, hostname=hostname)


@message("host.restart_agent")
async def restart_agent(call: Call, host: Row) -> None:
    machine = await forward(call, host.ref)
    machine.restart_toolstack()


@message("host.set_multipathing")
def set_multipathing(call: Call, host: Row, value: bool) -> None:
    call.db.update(host, multipathing=value)


@message("host.set_iscsi_iqn")
def set_iscsi_iqn(call: Call, host: Row, value: str) -> None:
    if not value:
        raise XapiError("INVALID_VALUE", "value", value)
    call.db.update(host, iscsi_iqn=value, other_config={**host.other_config, "iscsi_iqn": value})


@message("host.get_sched_gran")
async def get_sched_gran(call: Call, host: Row) -> str:
    await forward(call, host.ref)
    return "core"


@message("host.migrate_receive")
async def migrate_receive(
    call: Call, host: Row, network: str, options: dict[str, str]
) -> dict[str, Any]:
    """What VM.migrate_send needs to know of its destination.

    Raises HOST_CANNOT_ATTACH_NETWORK-like errors of the interface: PIF_NOT_PRESENT,
    REQUIRED_PIF_IS_UNPLUGGED, INTERFACE_HAS_NO_IP.
    """
    from deploy.lab.classes.vm_migrate import check_network

    call.db.get("network", network)
    await forward(call, host.ref)
    if not host.enabled:
        raise XapiError("HOST_DISABLED", host.ref)
    check_network(call, host, network)
    pif = next(p for p in call.db.rows("PIF", host.PIFs) if p.network == network)
    assert call.session is not None
    master = call.lab.coordinator.address
    return {
        "SM": f"http://{pif.IP}/services/SM?session_id={call.session.ref}",
        "host": host.ref,
        "xenops": f"http://{pif.IP}/services/xenops?session_id={call.session.ref}",
        "session_id": call.session.ref,
        "master": f"http://{master}/",
    }
