"""The pool's licence, membership and coordinator by choice.

Losing the coordinator is in coordination.py. Facts: FACTS 6, PROBES; recorded: records_fresh_pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab.classes.host_power import remove
from deploy.lab.coordination import TOOLSTACK_RESTART
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.fresh.facts import EDITION
from deploy.lab.operations import allowed_operations

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

_ALWAYS = """
    cluster_create designate_new_master tls_verification_enable configure_repositories sync_updates
    sync_bundle apply_updates cert_refresh exchange_certificates_on_join
    exchange_ca_certificates_on_join copy_primary_host_certs eject get_updates exchange_crls_on_join
"""


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

    Raises INTERNAL_ERROR for the coordinator, HA_IS_ENABLED, OPERATION_NOT_ALLOWED when a VM is
    there (recorded: PROBES-POWER), CANNOT_CONTACT_HOST.
    """
    row = call.db.get("host", host)
    machine = call.lab.machine(host)
    if machine.is_coordinator:
        raise XapiError("INTERNAL_ERROR", "Xapi_pool.Cannot_eject_master")
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    residents = call.db.rows("VM", row.resident_VMs)
    if any(not vm.is_control_domain and vm.power_state != "Halted" for vm in residents):
        raise XapiError("OPERATION_NOT_ALLOWED", "VM resident on host")
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
