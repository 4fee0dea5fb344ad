"""VM.power_state_reset, and whether HA could restart a VM (recorded: lifecycle_*, ha_settings)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.lab import domains
from deploy.lab.classes.vm_lifecycle import is_live as is_vm_live
from deploy.lab.classes.wiring import is_shared as is_network_shared
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.placement import is_live as is_host_live
from deploy.lab.placement import storage_of

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

CONTACT = 3.0
"""Seconds the coordinator gives a silent host before it believes the caller (PROBES-FAIL)."""


@message("VM.power_state_reset")
async def power_state_reset(call: Call, vm: Row) -> None:
    """Say that the VM is Halted, whatever became of its domain.

    Raises CANNOT_RESET_CONTROL_DOMAIN [vm], DOMAIN_EXISTS [vm] when the coordinator itself runs
    it, HOST_IS_LIVE [host] when its host answers.
    """
    if vm.is_control_domain:
        raise XapiError("CANNOT_RESET_CONTROL_DOMAIN", vm.ref)
    if is_vm_live(vm):
        await _check_gone(call, vm)
    domains.force_halted(call.lab, vm)


async def _check_gone(call: Call, vm: Row) -> None:
    machine = call.lab.machines.get(vm.resident_on)
    if machine is None:
        return
    if machine.is_coordinator:
        if vm.uuid in machine.domains:
            raise XapiError("DOMAIN_EXISTS", vm.ref)
        return
    if not is_host_live(call.lab, call.db.get("host", vm.resident_on)):
        # What the pool knows to be dead is not asked.
        return
    if machine.answers_coordinator:
        raise XapiError("HOST_IS_LIVE", vm.resident_on)
    await call.lab.clock.sleep(CONTACT)


@message("VM.assert_agile")
def assert_agile(call: Call, vm: Row) -> None:
    check_agile(call.lab, vm)


def check_agile(lab: Lab, vm: Row) -> None:
    """Raise what ties the VM to a host: storage, networks, devices."""
    for ref in storage_of(lab, vm):
        if not is_storage_shared(lab, lab.db.get("SR", ref)):
            raise XapiError("HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED", ref)
    for vif in lab.db.rows("VIF", vm.VIFs):
        network = lab.db.find("network", vif.network)
        if network is not None and not is_network_shared(lab, network):
            raise XapiError("HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED", network.ref)
    if vm.VGPUs:
        raise XapiError("VM_HAS_VGPU", vm.ref)
    if vm.VUSBs:
        raise XapiError("VM_HAS_VUSBS", vm.ref)


def is_storage_shared(lab: Lab, sr: Row) -> bool:
    """Shared, and plugged on every enabled host."""
    plugged = {pbd.host for pbd in lab.db.rows("PBD", sr.PBDs) if pbd.currently_attached}
    enabled = (host.ref for host in lab.db.all("host") if host.enabled)
    return bool(sr.shared) and all(host in plugged for host in enabled)
