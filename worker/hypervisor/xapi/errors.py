"""What XAPI's error codes mean to us: one table.

Codes are those of the XAPI datamodel (datamodel_errors.ml). Only the code is matched, parameters vary
between releases. A code that is not in the table is a bug of ours, never an answer to a workflow:
see `UntranslatedFailure`. INTERNAL_ERROR and the codes of wrong calls (MESSAGE_METHOD_UNKNOWN,
FIELD_TYPE_ERROR, INVALID_VALUE, …) are left out of it on purpose.
"""

from collections.abc import Sequence
from typing import NamedTuple

import XenAPI

from worker.hypervisor.port import (
    Busy,
    Gone,
    HypervisorError,
    NoRoom,
    Refused,
    Unreachable,
    UntranslatedFailure,
)
from worker.hypervisor.xapi.transport import TransportError


class Meaning(NamedTuple):
    error: type[HypervisorError]
    reason: str
    may_have_happened: bool = False


TABLE: dict[str, Meaning] = {
    # Unreachable: nobody who could have said yes or no was there.
    "HOST_OFFLINE": Meaning(Unreachable, "host_offline"),
    "CANNOT_CONTACT_HOST": Meaning(Unreachable, "host_offline", may_have_happened=True),
    "HOST_STILL_BOOTING": Meaning(Unreachable, "still_booting"),
    "HOST_HAS_NO_MANAGEMENT_IP": Meaning(Unreachable, "still_booting"),
    # The session repeats the call once before these get here.
    "SESSION_INVALID": Meaning(Unreachable, "session_lost"),
    "HOST_IS_SLAVE": Meaning(Unreachable, "not_master"),
    # Not Refused: a changed password must not tear anything down.
    "SESSION_AUTHENTICATION_FAILED": Meaning(Unreachable, "credentials"),
    # Busy: the same call will do later, or our view was stale and the step looks again.
    "OTHER_OPERATION_IN_PROGRESS": Meaning(Busy, "in_progress"),
    "TOO_MANY_PENDING_TASKS": Meaning(Busy, "too_many_tasks"),
    "TOO_MANY_STORAGE_MIGRATES": Meaning(Busy, "too_many_tasks"),
    "HOST_EVACUATE_IN_PROGRESS": Meaning(Busy, "evacuating"),
    "NOT_SUPPORTED_DURING_UPGRADE": Meaning(Busy, "upgrade"),
    "VM_BAD_POWER_STATE": Meaning(Busy, "power_state"),
    "VDI_IN_USE": Meaning(Busy, "disk_in_use"),
    "SR_BACKEND_FAILURE_24": Meaning(Busy, "disk_in_use"),
    "SR_BACKEND_FAILURE_46": Meaning(Busy, "disk_unavailable"),
    "SR_BACKEND_FAILURE_47": Meaning(Busy, "storage_unavailable"),
    "SR_HAS_NO_PBDS": Meaning(Busy, "storage_unavailable"),
    "SR_NOT_ATTACHED": Meaning(Busy, "storage_unavailable"),
    "VDI_NOT_AVAILABLE": Meaning(Busy, "disk_unavailable"),
    "VDI_IO_ERROR": Meaning(Busy, "disk_unavailable", may_have_happened=True),
    "SR_BACKEND_FAILURE_82": Meaning(Busy, "disk_chain"),
    "SR_BACKEND_FAILURE_109": Meaning(Busy, "disk_chain"),
    "DEVICE_ALREADY_ATTACHED": Meaning(Busy, "plugged_already"),
    "DEVICE_ALREADY_DETACHED": Meaning(Busy, "device_state"),
    "DEVICE_DETACH_REJECTED": Meaning(Busy, "device_state"),
    "DEVICE_DETACH_TIMEOUT": Meaning(Busy, "device_state"),
    "DEVICE_ATTACH_TIMEOUT": Meaning(Busy, "device_state"),
    "HOST_DISABLED_UNTIL_REBOOT": Meaning(Busy, "host_rebooting"),
    "HOST_NOT_DISABLED": Meaning(Busy, "host_enabled"),
    "HOST_HAS_RESIDENT_VMS": Meaning(Busy, "host_in_use"),
    "TASK_CANCELLED": Meaning(Busy, "cancelled", may_have_happened=True),
    # Gone
    "HANDLE_INVALID": Meaning(Gone, "gone"),
    "UUID_INVALID": Meaning(Gone, "gone"),
    # NoRoom: another host or SR might do.
    "HOST_NOT_ENOUGH_FREE_MEMORY": Meaning(NoRoom, "memory"),
    "HOST_NOT_ENOUGH_PCPUS": Meaning(NoRoom, "cpus"),
    "NO_HOSTS_AVAILABLE": Meaning(NoRoom, "no_host"),
    "HOST_DISABLED": Meaning(NoRoom, "host_disabled"),
    "HOST_NOT_LIVE": Meaning(NoRoom, "host_not_live"),
    "VM_REQUIRES_SR": Meaning(NoRoom, "storage_not_reachable"),
    "VM_REQUIRES_NETWORK": Meaning(NoRoom, "network_not_reachable"),
    "HOST_CANNOT_ATTACH_NETWORK": Meaning(NoRoom, "network_not_reachable"),
    "VM_INCOMPATIBLE_WITH_THIS_HOST": Meaning(NoRoom, "incompatible"),
    "HOST_CANNOT_SEE_SR": Meaning(NoRoom, "storage_not_reachable"),
    "VM_HOST_INCOMPATIBLE_VERSION": Meaning(NoRoom, "incompatible"),
    "VM_HOST_INCOMPATIBLE_VERSION_MIGRATE": Meaning(NoRoom, "incompatible"),
    "VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION": Meaning(NoRoom, "incompatible"),
    "VM_HVM_REQUIRED": Meaning(NoRoom, "incompatible"),
    "VM_MIGRATE_FAILED": Meaning(NoRoom, "migration_failed", may_have_happened=True),
    "VM_MIGRATE_CONTACT_REMOTE_SERVICE_FAILED": Meaning(NoRoom, "migration_failed"),
    "HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN": Meaning(NoRoom, "failover_plan"),
    "SR_FULL": Meaning(NoRoom, "storage_full"),
    "SR_BACKEND_FAILURE_44": Meaning(NoRoom, "storage_full"),
    # Refused: never as it stands.
    "OPERATION_NOT_ALLOWED": Meaning(Refused, "not_allowed"),
    "OPERATION_BLOCKED": Meaning(Refused, "not_allowed"),
    "VM_LACKS_FEATURE": Meaning(Refused, "guest_cannot"),
    "VM_MISSING_PV_DRIVERS": Meaning(Refused, "guest_cannot"),
    "VM_NON_SUSPENDABLE": Meaning(Refused, "guest_cannot"),
    "VM_IS_IMMOBILE": Meaning(Refused, "immobile"),
    "VM_HAS_PCI_ATTACHED": Meaning(Refused, "immobile"),
    "VM_HAS_VGPU": Meaning(Refused, "immobile"),
    "VM_HAS_VUSBS": Meaning(Refused, "immobile"),
    "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT": Meaning(Refused, "guest_ignores"),
    "VM_SHUTDOWN_TIMEOUT": Meaning(Refused, "guest_ignores"),
    "VM_IS_TEMPLATE": Meaning(Refused, "not_allowed"),
    "VM_IS_SNAPSHOT": Meaning(Refused, "not_allowed"),
    "BOOTLOADER_FAILED": Meaning(Refused, "guest_failed"),
    "VM_CRASHED": Meaning(Refused, "guest_failed"),
    "VM_HALTED": Meaning(Refused, "guest_failed"),
    "VM_REBOOTED": Meaning(Refused, "guest_failed"),
    "DEVICE_ALREADY_EXISTS": Meaning(Refused, "conflict"),
    "PIF_VLAN_EXISTS": Meaning(Refused, "conflict"),
    "NETWORK_ALREADY_CONNECTED": Meaning(Refused, "conflict"),
    "NETWORK_CONTAINS_VIF": Meaning(Refused, "network_in_use"),
    "NETWORK_CONTAINS_PIF": Meaning(Refused, "network_in_use"),
    "VIF_IN_USE": Meaning(Refused, "network_in_use"),
    "HOST_IS_LIVE": Meaning(Refused, "host_is_live"),
    "DOMAIN_EXISTS": Meaning(Refused, "domain_exists"),
    "HA_IS_ENABLED": Meaning(Refused, "ha_enabled"),
    "CANNOT_EVACUATE_HOST": Meaning(Refused, "cannot_evacuate"),
    "RBAC_PERMISSION_DENIED": Meaning(Refused, "permission"),
    "PERMISSION_DENIED": Meaning(Refused, "permission"),
    "LICENCE_RESTRICTION": Meaning(Refused, "licence"),
    "FEATURE_RESTRICTED": Meaning(Refused, "licence"),
}


def code_of(failure: XenAPI.Failure) -> str:
    details = failure.details
    return str(details[0]) if details else ""


def translate(failure: XenAPI.Failure) -> HypervisorError | UntranslatedFailure:
    """Our word for what XAPI answered; raise it `from failure`."""
    return translate_code(code_of(failure))


def translate_code(code: str) -> HypervisorError | UntranslatedFailure:
    meaning = TABLE.get(code)
    if meaning is None:
        return UntranslatedFailure(code or "no code")
    return meaning.error(meaning.reason, may_have_happened=meaning.may_have_happened)


def translate_error_info(error_info: Sequence[str]) -> HypervisorError | UntranslatedFailure:
    """The same for `task.error_info`, with XAPI's own words kept in `__cause__`."""
    details = [str(part) for part in error_info]
    error = translate_code(details[0] if details else "")
    error.__cause__ = XenAPI.Failure(details)
    return error


def translate_transport(error: TransportError) -> Unreachable:
    return Unreachable(error.reason, may_have_happened=error.sent)
