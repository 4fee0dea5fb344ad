"""High availability of the pool: arming, disarming and planning.

Facts: FACTS 11 (xapi_ha.ml, xapi_pool.ml); recorded: ha_settings, PROBES-HA.
"""

from __future__ import annotations

from typing import Any

from deploy.lab import failover
from deploy.lab.classes.vm_reset import is_storage_shared
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.placement import choose_host, is_live

MIB = 1024**2
STATEFILE_SIZE, METADATA_SIZE = 4 * MIB, 256 * MIB
CLUSTER_STACK = "xhad"
ENABLING, DISABLING = 5.0, 20.0


@message("pool.enable_ha")
async def enable_ha(call: Call, heartbeat_srs: list[str], configuration: dict[str, str]) -> None:
    """Raises HA_IS_ENABLED, HOST_OFFLINE [host], CANNOT_CREATE_STATE_FILE."""
    pool = call.lab.pool
    if pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    given = [call.db.get("SR", ref) for ref in heartbeat_srs]
    for host in call.db.all("host"):
        if not is_live(call.lab, host):
            raise XapiError("HOST_OFFLINE", host.ref)
    storage = _statefile_storage(call, given)
    await call.lab.clock.sleep(ENABLING)
    if pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    statefile = _make_vdi(call, storage, "Statefile for HA", "ha_statefile", STATEFILE_SIZE)
    _make_vdi(call, storage, "Metadata for HA", "redo_log", METADATA_SIZE)
    call.db.update(
        pool,
        ha_enabled=True,
        ha_statefiles=[statefile.ref],
        ha_configuration=configuration,
        ha_cluster_stack=CLUSTER_STACK,
    )
    hosts = call.db.all("host")
    for host in hosts:
        call.db.update(
            host, ha_statefiles=[statefile.ref], ha_network_peers=[h.uuid for h in hosts]
        )
    failover.refresh_plan(call.lab)
    call.lab.spawn(call.lab.failover.run())


def _statefile_storage(call: Call, given: list[Row]) -> Row:
    for sr in given or call.db.all("SR"):
        if is_storage_shared(call.lab, sr) and sr.type not in ("iso", "udev"):
            return sr
    raise XapiError("CANNOT_CREATE_STATE_FILE")


def _make_vdi(call: Call, sr: Row, label: str, kind: str, size: int) -> Row:
    vdi = call.db.create(
        "VDI",
        name_label=label,
        name_description=f"Used for {label.lower()}",
        SR=sr.ref,
        type=kind,
        virtual_size=size,
        managed=True,
    )
    call.db.update(vdi, location=vdi.uuid)
    return vdi


@message("pool.disable_ha")
async def disable_ha(call: Call) -> None:
    pool = call.lab.pool
    if not pool.ha_enabled:
        raise XapiError("HA_NOT_ENABLED")
    await call.lab.clock.sleep(DISABLING)
    statefiles = call.db.rows("VDI", pool.ha_statefiles)
    of_storage = [vdi for sr in {v.SR for v in statefiles} for vdi in call.db.get("SR", sr).VDIs]
    for vdi in call.db.rows("VDI", of_storage):
        if vdi.type in ("ha_statefile", "redo_log"):
            call.db.delete(vdi)
    for host in call.db.all("host"):
        call.db.update(host, ha_statefiles=[], ha_network_peers=[])
    call.db.update(
        pool, ha_enabled=False, ha_statefiles=[], ha_plan_exists_for=0, ha_overcommitted=False
    )


@message("pool.ha_prevent_restarts_for")
def ha_prevent_restarts_for(call: Call, seconds: int) -> None:
    call.lab.failover.restarts_from = call.lab.clock.now() + seconds


@message("pool.ha_schedule_plan_recomputation")
def ha_schedule_plan_recomputation(call: Call) -> None:
    failover.refresh_plan(call.lab)


# --- planning


@message("pool.ha_compute_max_host_failures_to_tolerate")
def ha_compute_max_host_failures_to_tolerate(call: Call) -> int:
    return failover.most_failures(call.lab, failover.protected_vms(call.lab))


@message("pool.ha_compute_hypothetical_max_host_failures_to_tolerate")
def ha_compute_hypothetical(call: Call, configuration: dict[str, str]) -> int:
    """As if exactly the VMs given with `restart` were protected."""
    vms = [call.db.get("VM", ref) for ref in configuration]
    wanted = [vm for vm in vms if configuration[vm.ref] == failover.RESTART]
    return failover.most_failures(call.lab, wanted)


@message("pool.ha_failover_plan_exists")
def ha_failover_plan_exists(call: Call, n: int) -> bool:
    return n <= failover.most_failures(call.lab, failover.protected_vms(call.lab))


@message("pool.ha_compute_vm_failover_plan")
def ha_compute_vm_failover_plan(
    call: Call, failed_hosts: list[str], failed_vms: list[str]
) -> dict[str, Any]:
    """VM → {"host": where it would start} or {"error_code": why it would not}."""
    plan: dict[str, Any] = {}
    failed = [call.db.get("host", ref) for ref in failed_hosts]
    for vm in [call.db.get("VM", ref) for ref in failed_vms]:
        try:
            host = choose_host(call.lab, vm, excluding=failed)
        except XapiError as error:
            plan[vm.ref] = {"error_code": error.code}
        else:
            plan[vm.ref] = {"host": host.ref}
    return plan


@message("pool.set_ha_host_failures_to_tolerate")
def set_ha_host_failures_to_tolerate(call: Call, pool: Row, value: int) -> None:
    if value < 0:
        raise XapiError("INVALID_VALUE", "ha_host_failures_to_tolerate", str(value))
    if pool.ha_enabled and not pool.ha_allow_overcommit:
        most = failover.most_failures(call.lab, failover.protected_vms(call.lab))
        if value > most and value > pool.ha_host_failures_to_tolerate:
            raise XapiError("HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN")
    call.db.update(pool, ha_host_failures_to_tolerate=value)
    failover.refresh_plan(call.lab)
