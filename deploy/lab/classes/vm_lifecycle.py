"""What may be done to a VM now: the daemon's checks in its order, and allowed_operations.

Facts: FACTS 3 (xapi_vm_lifecycle.ml); recorded: lifecycle_halted, lifecycle_running,
lifecycle_suspended, lifecycle_template_snapshot, blocked_operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.operations import allowed_operations, refresh
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

HALTED, PAUSED, SUSPENDED, RUNNING = "Halted", "Paused", "Suspended", "Running"
ANY = (HALTED, PAUSED, SUSPENDED, RUNNING)


def _names(text: str) -> list[str]:
    return text.split()


_LISTED = _names("""
    snapshot clone copy revert checkpoint snapshot_with_quiesce provision start start_on pause
    unpause clean_shutdown clean_reboot hard_shutdown hard_reboot suspend resume resume_on
    pool_migrate migrate_send changing_dynamic_range changing_static_range changing_shadow_memory
    changing_VCPUs_live changing_NVRAM make_into_template export metadata_export destroy
    create_vtpm sysprep
""")
"""Operations that allowed_operations tells of, as declared; it lists them last one first."""


def _states() -> dict[str, tuple[str, ...]]:
    table = {
        (HALTED,): "start start_on provision make_into_template changing_shadow_memory "
        "changing_NVRAM create_vtpm changing_VCPUs changing_static_range changing_memory_limits "
        "clone copy",
        (PAUSED,): "unpause",
        (SUSPENDED,): "resume resume_on csvm",
        (RUNNING,): "pause suspend clean_shutdown clean_reboot pool_migrate changing_VCPUs_live "
        "changing_memory_live changing_shadow_memory_live awaiting_memory_live send_sysrq "
        "send_trigger call_plugin data_source_op sysprep snapshot_with_quiesce",
        (HALTED, RUNNING): "changing_dynamic_range",
        (HALTED, SUSPENDED): "create_template destroy export",
        (PAUSED, RUNNING): "hard_reboot",
        (PAUSED, SUSPENDED, RUNNING): "shutdown hard_shutdown checkpoint get_boot_record",
        (HALTED, SUSPENDED, RUNNING): "migrate_send",
        (): "import",
    }
    return {name: states for states, names in table.items() for name in names.split()}


_STATES = _states()
_CHANGED_ON_A_CONTROL_DOMAIN = {"changing_VCPUs", "changing_static_range", "changing_memory_limits"}
_COPIES = {"clone", "copy"}

_COEXISTING = ({"clone", "copy", "export"}, {"snapshot", "checkpoint"}, {"get_boot_record"})
_FOLLOWING = {
    ("snapshot_with_quiesce", "snapshot"),
    ("migrate_send", "metadata_export"),
    ("migrate_send", "clean_shutdown"),
    ("migrate_send", "clean_reboot"),
    ("migrate_send", "start"),
    ("migrate_send", "start_on"),
}
_OVERRULED_BY = {
    "hard_shutdown": {"hard_shutdown"},
    "hard_reboot": {"hard_shutdown", "hard_reboot"},
}

_ON_TEMPLATES = frozenset(
    _names(
        "changing_dynamic_range changing_static_range changing_memory_limits changing_shadow_memory "
        "changing_VCPUs changing_NVRAM clone copy export metadata_export provision"
    )
)
_ON_OWN_TEMPLATES = {"destroy", "migrate_send"}
_ON_SNAPSHOTS = frozenset(_names("revert clone copy export destroy hard_shutdown metadata_export"))
_ON_CONTROL_DOMAINS = frozenset(
    _names(
        "data_source_op changing_memory_live awaiting_memory_live metadata_export "
        "changing_dynamic_range changing_memory_limits changing_static_range start start_on "
        "changing_VCPUs destroy"
    )
)
_MOVES = {"suspend", "checkpoint", "pool_migrate", "migrate_send"}
_NOT_DURING_UPGRADE = frozenset(
    _names(
        "csvm query_services call_plugin changing_NVRAM create_vtpm sysprep changing_dynamic_range "
        "changing_static_range"
    )
)

_WORDS = {
    "assert_operation_valid": "assertoperationvalid",
    "data_source_op": "data_sources_op",
} | dict.fromkeys(
    ("create_template", "query_services", "changing_memory_limits", "changing_VCPUs"),
    "(unknown operation)",
)
"""The daemon's own words for operations in its errors, where they differ from the enum."""


def check_operation(lab: Lab, vm: Row, op: str, *, strict: bool = False) -> None:
    """Raise what forbids `op` on `vm` now; `op` is a member of the enum vm_operations.

    `strict` also asks whether the guest would obey, which a call does not: allowed_operations and
    the planning of evacuations do.
    """
    if op in vm.blocked_operations:
        raise XapiError("OPERATION_BLOCKED", vm.ref, vm.blocked_operations[op])
    check_power_state(lab, vm, op)
    _check_current_operations(vm, op)
    _check_kind(vm, op)
    if strict:
        _check_mobility(lab, vm, op)
    _check_control_domain(lab, vm, op)
    _check_guest(lab, vm, op, strict=strict)
    _check_devices(lab, vm, op)
    _check_memberships(lab, vm, op)
    if op == "query_services" and not _is_true(vm.other_config, "is_system_domain"):
        raise XapiError("NOT_SYSTEM_DOMAIN", vm.ref)
    if op in _NOT_DURING_UPGRADE and "rolling_upgrade_in_progress" in lab.pool.other_config:
        raise XapiError("NOT_SUPPORTED_DURING_UPGRADE")
    if op == "create_vtpm" and vm.VTPMs:
        raise XapiError("VTPM_MAX_AMOUNT_REACHED", "1")


def check_power_state(lab: Lab, vm: Row, op: str) -> None:
    """Raise VM_BAD_POWER_STATE [vm, "a, b", actual] when `op` needs another state."""
    states = _allowed_states(lab, vm, op)
    if vm.power_state not in states:
        raise bad_power_state(vm, ", ".join(states))


def _allowed_states(lab: Lab, vm: Row, op: str) -> tuple[str, ...]:
    if op in _COPIES and (vm.is_a_snapshot or _clones_suspended_vms(lab)):
        return (HALTED, SUSPENDED)
    if op in _CHANGED_ON_A_CONTROL_DOMAIN and vm.is_control_domain:
        return (HALTED, RUNNING)
    return _STATES.get(op, ANY)


def assert_power_state(vm: Row, *states: str) -> None:
    """The check of calls that are no operations: same error, the states joined by ";"."""
    if vm.power_state not in states:
        raise bad_power_state(vm, ";".join(states))


def bad_power_state(vm: Row, expected: str) -> XapiError:
    return XapiError("VM_BAD_POWER_STATE", vm.ref, expected.lower(), vm.power_state.lower())


def is_live(vm: Row) -> bool:
    """Whether the VM has a domain."""
    return vm.power_state in (RUNNING, PAUSED)


def is_default_template(vm: Row) -> bool:
    return bool(vm.is_default_template) or _is_true(vm.other_config, "default_template")


def _check_current_operations(vm: Row, op: str) -> None:
    current = vm.current_operations
    if not current or _may_join(op, set(current.values())):
        return
    tasks, ops = list(current), [_WORDS.get(name, name) for name in current.values()]
    if len(tasks) == 1:
        raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VM", vm.ref, ops[0], tasks[0])
    braced = [f"{{{','.join(names)}}}" for names in (ops, tasks)]
    raise XapiError("OTHER_OPERATION_IN_PROGRESS", "VM", vm.ref, *braced)


def _may_join(op: str, current: set[str]) -> bool:
    if op in _OVERRULED_BY:
        return not current & _OVERRULED_BY[op]
    if any(op in together and current <= together for together in _COEXISTING):
        return True
    return len(current) == 1 and (next(iter(current)), op) in _FOLLOWING


def _check_kind(vm: Row, op: str) -> None:
    if vm.is_a_snapshot:
        if op not in _ON_SNAPSHOTS:
            raise XapiError("VM_IS_SNAPSHOT", vm.ref, _WORDS.get(op, op))
    elif vm.is_a_template:
        own = op in _ON_OWN_TEMPLATES and not is_default_template(vm)
        if op not in _ON_TEMPLATES and not own:
            raise XapiError("VM_IS_TEMPLATE", vm.ref, _WORDS.get(op, op))
    elif op == "provision":
        raise XapiError("PROVISION_ONLY_ALLOWED_ON_TEMPLATE")
    if op == "revert" and not vm.is_a_snapshot:
        raise XapiError("REVERT_ONLY_ALLOWED_ON_SNAPSHOT")


def _check_mobility(lab: Lab, vm: Row, op: str) -> None:
    nested = _starts_with(lab, vm, "nested_virt", "nested-virt")
    if op in _MOVES and (nested or _starts_with(lab, vm, "nomigrate", "nomigrate")):
        raise XapiError("VM_IS_IMMOBILE", vm.ref)
    if op == "changing_dynamic_range" and nested:
        raise XapiError("VM_IS_USING_NESTED_VIRT", vm.ref)


def _starts_with(lab: Lab, vm: Row, metric: str, key: str) -> bool:
    """A platform flag as the running domain was started with it."""
    metrics = lab.db.find("VM_metrics", vm.metrics)
    if metrics is not None:
        return bool(metrics.fields[metric])
    platform: Mapping[str, str] = vm.platform
    return _is_true(platform, key)


def _check_control_domain(lab: Lab, vm: Row, op: str) -> None:
    if not vm.is_control_domain:
        return
    host = lab.db.find("host", vm.resident_on)
    if op in ("changing_VCPUs", "destroy") and host is not None and host.control_domain == vm.ref:
        raise XapiError("OPERATION_NOT_ALLOWED", "This operation is not allowed on dom0")
    if op not in _ON_CONTROL_DOMAINS:
        raise XapiError(
            "OPERATION_NOT_ALLOWED", "This operation is not allowed on a control domain"
        )


def _check_guest(lab: Lab, vm: Row, op: str, *, strict: bool) -> None:
    guest = lab.db.find("VM_guest_metrics", vm.guest_metrics)
    says: Mapping[str, str] = guest.other if guest is not None else {}

    def lacks(*features: str) -> bool:
        return all(says.get(f"feature-{feature}") != "1" for feature in features)

    if op in _MOVES and "data-cant-suspend-reason" in says:
        raise XapiError("VM_NON_SUSPENDABLE", vm.ref, says["data-cant-suspend-reason"])
    if is_live(vm) and not (
        _booted_pv(lab, vm) or (guest is not None and guest.PV_drivers_version)
    ):
        lacking = (
            (strict and op in _MOVES and lacks("suspend"))
            or (strict and op == "clean_shutdown" and lacks("shutdown", "poweroff"))
            or (strict and op == "clean_reboot" and lacks("shutdown", "reboot"))
            or (op == "changing_VCPUs_live" and lacks("vcpu-hotplug"))
        )
        if lacking:
            raise XapiError("VM_LACKS_FEATURE", vm.ref)
    if op == "snapshot_with_quiesce" and not {"feature-quiesce", "feature-snapshot"} & says.keys():
        raise XapiError("VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm.ref)


def _booted_pv(lab: Lab, vm: Row) -> bool:
    metrics = lab.db.find("VM_metrics", vm.metrics)
    return metrics is not None and metrics.current_domain_type in ("pv", "pv_in_pvh")


def _check_devices(lab: Lab, vm: Row, op: str) -> None:
    if op in ("checkpoint", "snapshot", "suspend", "snapshot_with_quiesce", "pool_migrate"):
        for vbd in lab.db.rows("VBD", vm.VBDs):
            vdi = lab.db.find("VDI", vbd.VDI)
            resets = vdi is not None and vdi.on_boot == "reset"
            if resets and (op != "pool_migrate" or (vdi is not None and vdi.allow_caching)):
                raise XapiError("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION")
    if op in _MOVES and vm.attached_PCIs:
        raise XapiError("VM_HAS_PCI_ATTACHED", vm.ref)
    if op in _MOVES and vm.VGPUs:
        raise XapiError("VM_HAS_VGPU", vm.ref)
    if (op in _MOVES or op == "snapshot") and vm.VUSBs:
        raise XapiError("VM_HAS_VUSBS", vm.ref)


def _check_memberships(lab: Lab, vm: Row, op: str) -> None:
    if op == "create_vtpm" and vm.VTPMs:
        raise XapiError("VTPM_MAX_AMOUNT_REACHED", "1")
    if op != "make_into_template":
        return
    for cls, field, code in (
        ("VM_appliance", "appliance", "VM_IS_PART_OF_AN_APPLIANCE"),
        ("VMPP", "protection_policy", "VM_ASSIGNED_TO_PROTECTION_POLICY"),
        ("VMSS", "snapshot_schedule", "VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE"),
    ):
        if lab.db.find(cls, vm.fields[field]) is not None:
            raise XapiError(code, vm.ref, vm.fields[field])


def _clones_suspended_vms(lab: Lab) -> bool:
    return bool(lab.pool.other_config.get("allow_clone_suspended_vm") == "true")


def _is_true(settings: Mapping[str, str], key: str) -> bool:
    return settings.get(key, "").lower() in ("1", "true")


@allowed_operations("VM")
def allowed(lab: Lab, vm: Row) -> list[str]:
    """What allowed_operations of `vm` is now."""
    names = []
    for op in reversed(_LISTED):
        # Most are ruled out by the state alone; the full check costs twenty times as much.
        if vm.power_state not in _allowed_states(lab, vm, op):
            continue
        try:
            check_operation(lab, vm, op, strict=True)
        except XapiError:
            continue
        names.append(op)
    return names


def reset_to(lab: Lab, vm: Row, power_state: str) -> None:
    """Write a power state and all that comes with it; current operations of the VM stay.

    Halted: devices are detached and their operations forgotten. Halted or Suspended: the VM is
    nowhere and takes no memory. Attributes of the stopped domain (domid) go.
    """
    db = lab.db
    changes: dict[str, object] = {"power_state": power_state}
    if power_state == HALTED:
        for cls, refs in (("VBD", vm.VBDs), ("VIF", vm.VIFs), ("VUSB", vm.VUSBs)):
            for device in db.rows(cls, refs):
                reserved = {} if cls == "VUSB" else {"reserved": False}
                db.update(device, currently_attached=False, current_operations={}, **reserved)
        for vgpu in db.rows("VGPU", vm.VGPUs):
            db.update(
                vgpu, currently_attached=False, resident_on=NULL, scheduled_to_be_resident_on=NULL
            )
        for pci in db.rows("PCI", vm.attached_PCIs):
            db.update(pci, attached_VMs=[ref for ref in pci.attached_VMs if ref != vm.ref])
        changes |= {"requires_reboot": False}
    if power_state in (HALTED, SUSPENDED):
        changes |= {"resident_on": NULL, "scheduled_to_be_resident_on": NULL, "domid": -1}
    db.update(vm, **changes)
    for cls, refs in (("VBD", vm.VBDs), ("VIF", vm.VIFs), ("VUSB", vm.VUSBs)):
        for device in db.rows(cls, refs):
            refresh(lab, device)
    refresh(lab, vm)


@message("VM.assert_operation_valid")
def assert_operation_valid(call: Call, vm: Row, op: str) -> None:
    check_operation(call.lab, vm, op)


@message("VM.update_allowed_operations")
def update_allowed_operations(call: Call, vm: Row) -> None:
    refresh(call.lab, vm)


@message("VM.set_blocked_operations")
def set_blocked_operations(call: Call, vm: Row, value: dict[str, str]) -> None:
    call.db.update(vm, blocked_operations=value)
    refresh(call.lab, vm)


@message("VM.add_to_blocked_operations")
def add_to_blocked_operations(call: Call, vm: Row, key: str, value: str) -> None:
    if key in vm.blocked_operations:
        raise XapiError("MAP_DUPLICATE_KEY", "VM", "blocked_operations", vm.ref, key)
    set_blocked_operations(call, vm, {key: value, **vm.blocked_operations})


@message("VM.remove_from_blocked_operations")
def remove_from_blocked_operations(call: Call, vm: Row, key: str) -> None:
    rest = {op: reason for op, reason in vm.blocked_operations.items() if op != key}
    set_blocked_operations(call, vm, rest)
