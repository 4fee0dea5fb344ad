"""The pool's settings, licence, membership and coordinator by choice.

Losing the coordinator is in coordination.py. Facts: FACTS 6, PROBES; recorded: records_fresh_pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.lab.classes.host_power import remove
from deploy.lab.coordination import TOOLSTACK_RESTART
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.fresh.facts import EDITION
from deploy.lab.generic import add_to_map, remove_from_map
from deploy.lab.operations import allowed_operations

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

_ALWAYS = """
    cluster_create designate_new_master tls_verification_enable configure_repositories sync_updates
    sync_bundle apply_updates cert_refresh exchange_certificates_on_join
    exchange_ca_certificates_on_join copy_primary_host_certs eject get_updates exchange_crls_on_join
"""
THREADS = range(1, 101)
CACHE_SIZES = range(1, 65_536)
MOST_WEEKLY_DAY = 6


@allowed_operations("pool")
def allowed(lab: Lab, pool: Row) -> list[str]:
    """One operation at a time; HA is the only one that depends on the pool's state."""
    if pool.current_operations:
        return []
    return ["ha_disable" if pool.ha_enabled else "ha_enable", *_ALWAYS.split()]


# --- licence


@message("pool.get_license_state")
def get_license_state(call: Call, pool: Row) -> dict[str, str]:
    return {"edition": EDITION, "expiry": "never"}


@message("pool.apply_edition")
def apply_edition(call: Call, pool: Row, edition: str) -> None:
    if edition != EDITION:
        raise XapiError("INVALID_EDITION", edition)


@message("pool.has_extension")
def has_extension(call: Call, pool: Row, name: str) -> bool:
    return False


# --- membership


@message("pool.join", "pool.join_force")
def join(call: Call, address: str, username: str, password: str) -> None:
    if call.db.count("host") > 1:
        raise XapiError("OPERATION_NOT_ALLOWED", "Host is already part of a pool")
    raise XapiError("NOT_IMPLEMENTED", call.message.full_name)


@message("pool.eject")
def eject(call: Call, host: str) -> None:
    """The host forgets the pool and the pool forgets the host with its local storage.

    Raises HA_IS_ENABLED, HOST_HAS_RESIDENT_VMS [host], and INTERNAL_ERROR for the coordinator.
    """
    row = call.db.get("host", host)
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    machine = call.lab.machine(host)
    if machine.is_coordinator:
        raise XapiError("INTERNAL_ERROR", "Xapi_pool.Cannot_eject_master")
    residents = call.db.rows("VM", row.resident_VMs)
    if any(not vm.is_control_domain for vm in residents):
        raise XapiError("HOST_HAS_RESIDENT_VMS", host)
    if not machine.answers_coordinator:
        raise XapiError("CANNOT_CONTACT_HOST", host)
    for pbd in call.db.rows("PBD", row.PBDs):
        storage = call.db.find("SR", pbd.SR)
        call.db.delete(pbd)
        if storage is not None and not storage.shared and not storage.PBDs:
            for vdi in call.db.rows("VDI", storage.VDIs):
                call.db.delete(vdi)
            call.db.delete(storage)
    remove(call, row)
    machine.cut_connections()


@message("pool.designate_new_master")
def designate_new_master(call: Call, host: str) -> None:
    """Hand the pool over to another host; every toolstack restarts, clients log in again.

    Raises HA_IS_ENABLED, HOST_OFFLINE [host]. The present coordinator changes nothing.
    """
    call.db.get("host", host)
    machine = call.lab.machine(host)
    if machine.is_coordinator:
        return
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    if not machine.answers_coordinator:
        raise XapiError("HOST_OFFLINE", host)
    call.lab.spawn(_hand_over(call.lab, machine))


async def _hand_over(lab: Lab, machine: Machine) -> None:
    # The answer to the call that asked goes out before its connection is cut.
    await lab.clock.sleep(0.1)
    lab.coordination.sync()
    machines = [m for m in lab.machines.values() if m.powered and m.toolstack]
    for member in machines:
        member.toolstack = False
        member.cut_connections()
    lab.tasks.forget_all()
    lab.sessions.forget_all()
    lab.coordination.switch(machine)
    await lab.clock.sleep(TOOLSTACK_RESTART)
    for member in machines:
        member.toolstack = member.powered


# --- settings


@message("pool.add_to_guest_agent_config")
def add_to_guest_agent_config(call: Call, pool: Row, key: str, value: str) -> None:
    add_to_map(call, pool, "guest_agent_config", key, value)


@message("pool.remove_from_guest_agent_config")
def remove_from_guest_agent_config(call: Call, pool: Row, key: str) -> None:
    remove_from_map(call, pool, "guest_agent_config", key)


@message("pool.set_vswitch_controller")
def set_vswitch_controller(call: Call, address: str) -> None:
    call.db.update(call.lab.pool, vswitch_controller=address)


@message("pool.set_igmp_snooping_enabled", "pool.set_update_sync_enabled")
@message("pool.set_ext_auth_cache_enabled", "pool.set_custom_uefi_certificates")
@message("pool.set_uefi_certificates")
def set_field(call: Call, pool: Row, value: Any) -> None:
    call.db.update(pool, **{call.message.name.removeprefix("set_"): value})


@message("pool.set_local_auth_max_threads", "pool.set_ext_auth_max_threads")
def set_threads(call: Call, pool: Row, value: int) -> None:
    name = call.message.name.removeprefix("set_")
    if value not in THREADS:
        raise XapiError("INVALID_VALUE", name, str(value))
    call.db.update(pool, **{name: value})


@message("pool.set_ext_auth_cache_size", "pool.set_ext_auth_cache_expiry")
def set_cache(call: Call, pool: Row, value: int) -> None:
    name = call.message.name.removeprefix("set_")
    if value not in CACHE_SIZES:
        raise XapiError("INVALID_VALUE", name, str(value))
    call.db.update(pool, **{name: value})


@message("pool.configure_update_sync")
def configure_update_sync(call: Call, pool: Row, frequency: str, day: int) -> None:
    if not 0 <= day <= MOST_WEEKLY_DAY or (frequency == "daily" and day != 0):
        raise XapiError("INVALID_UPDATE_SYNC_DAY", str(day))
    call.db.update(pool, update_sync_frequency=frequency, update_sync_day=day)


@message("pool.set_https_only")
def set_https_only(call: Call, pool: Row, value: bool) -> None:
    for host in call.db.all("host"):
        call.db.update(host, https_only=value)


@message("pool.set_telemetry_next_collection")
def set_telemetry_next_collection(call: Call, pool: Row, value: Any) -> None:
    call.db.update(pool, telemetry_next_collection=value)


@message("pool.enable_ssl_legacy", "pool.disable_ssl_legacy", "pool.certificate_sync")
@message("pool.audit_log_append", "pool.rotate_secret")
def accept(call: Call, *_: Any) -> None:
    """Nothing of it shows in the lab."""


@message("pool.certificate_list", "pool.crl_list")
def no_certificates(call: Call) -> list[str]:
    return []


@message("pool.deconfigure_wlb")
def deconfigure_wlb(call: Call) -> None:
    call.db.update(call.lab.pool, wlb_enabled=False, wlb_url="", wlb_username="")


@message("pool.retrieve_wlb_recommendations", "pool.retrieve_wlb_configuration")
def without_wlb(call: Call) -> None:
    raise XapiError("WLB_NOT_INITIALIZED")
