"""What may differ between a recorded answer and ours, and why: every rule in one place.

Each rule stands for a sentence of the README that comes with the recordings; nothing else is
ignored. `compare.py` asks this module, and holds no exception of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One permitted difference."""

    name: str
    sentence: str
    """The README's words."""


# --- Values that are not compared at all, by class and field (and key of a map) ------------------

VERSIONS = Rule("versions", "Ignore: versions")
HARDWARE = Rule("hardware", "Ignore: host hardware (CPUs, memory totals apart from 64 GiB)")
LICENCE = Rule("licence", "Ignore: licence and software_version fields; edition with all features")
MACS = Rule("macs", "Ignore: MACs")
BRIDGES = Rule("bridges", "Ignore: bridges `xapiN` numbers")
DOMID = Rule("domid", "Ignore: domid")
CONSOLES = Rule("consoles", "Ignore: console ports and locations; VNC text")
BOOT_TIMES = Rule("boot_times", "Ignore: host.other_config boot times")
MEMORY_SUMS = Rule("memory_sums", "Ignore: memory sums that depend on overheads")
GENERATIONS = Rule("generations", "Ignore: token and generation numbers")
BACKTRACE = Rule("backtrace", "Ignore: `backtrace` of tasks")
COUNTS = Rule(
    "counts",
    "Ignore: valid_ref_counts of classes session and task (the recorder itself keeps up to four"
    " sessions open), pool-wide counts when other scenarios left messages",
)
HYPERVISOR = Rule(
    "hypervisor",
    "Not the daemon's own: guest metrics (PV drivers version, os_version, `other` feature keys,"
    " networks), console locations, host CPU data, memory totals, VM_metrics memory/VCPU figures,"
    " VM.send_sysrq/send_trigger/call_plugin, VCPUs live",
)
STORAGE = Rule(
    "storage",
    "Not the daemon's own: every SR_BACKEND_FAILURE_* and its text, size rounding (2 MiB) and"
    " limits, `location`, `physical_utilisation`, `sm_config`, SM records' capabilities,"
    " what SR.probe/scan finds, disk import/export data path",
)
NETWORK = Rule("network", "Not the daemon's own: bridges, bonds, PIF link state, IP configuration")
RRD_VALUES = Rule("rrd", "Not the daemon's own: RRD values (made up, the files' form is real)")

_FIELDS: dict[Rule, str] = {
    VERSIONS: """
        host.API_version_major host.API_version_minor SM.version SM.required_api_version
        Driver_variant.version pool_update.version
    """,
    HARDWARE: """
        host.cpu_info host.cpu_configuration host.capabilities host.bios_strings
        host.chipset_info host.memory_overhead host.numa_affinity_policy
        host_metrics.memory_free
        host_cpu.number host_cpu.vendor host_cpu.speed host_cpu.modelname host_cpu.family
        host_cpu.model host_cpu.stepping host_cpu.flags host_cpu.features host_cpu.utilisation
        pool.cpu_info
        PCI.class_id PCI.class_name PCI.vendor_id PCI.vendor_name PCI.device_id PCI.device_name
        PCI.pci_id PCI.driver_name PCI.subsystem_vendor_id PCI.subsystem_vendor_name
        PCI.subsystem_device_id PCI.subsystem_device_name
        PIF_metrics.vendor_id PIF_metrics.vendor_name PIF_metrics.device_id
        PIF_metrics.device_name PIF_metrics.pci_bus_path PIF_metrics.speed PIF_metrics.duplex
    """,
    LICENCE: """
        host.software_version host.license_params host.license_server host.edition host.editions
        pool.restrictions pool.license_state
    """,
    MACS: "PIF.MAC Certificate.fingerprint Certificate.fingerprint_sha1"
    " Certificate.fingerprint_sha256",
    DOMID: "VM.domid",
    CONSOLES: "console.location console.port",
    BOOT_TIMES: "host.other_config/agent_start_time host.other_config/boot_time",
    BACKTRACE: "task.backtrace",
    HYPERVISOR: """
        VM_guest_metrics.PV_drivers_version VM_guest_metrics.os_version VM_guest_metrics.other
        VM_guest_metrics.networks VM.last_boot_CPU_flags
        VM_metrics.memory_actual VM_metrics.VCPUs_number VM_metrics.VCPUs_utilisation
        VM_metrics.VCPUs_CPU VM_metrics.VCPUs_params VM_metrics.VCPUs_flags
    """,
    STORAGE: """
        VDI.location VDI.physical_utilisation VDI.sm_config SR.physical_utilisation SR.sm_config
        SM.capabilities SM.features
    """,
    NETWORK: """
        PIF_metrics.carrier PIF.IP PIF.netmask PIF.gateway PIF.DNS PIF.IPv6 PIF.ipv6_gateway
        PIF.properties
    """,
}

_BY_FIELD = {name: rule for rule, names in _FIELDS.items() for name in names.split()}


def ignored_field(class_name: str, field: str, key: str = "") -> Rule | None:
    """The rule by which a field (or one key of a map field) is not compared."""
    path = f"{class_name}.{field}"
    return _BY_FIELD.get(path) or (_BY_FIELD.get(f"{path}/{key}") if key else None)


_RESULTS: dict[Rule, str] = {
    MEMORY_SUMS: "host.compute_free_memory host.compute_memory_overhead"
    " VM.compute_memory_overhead VM.maximise_memory",
    STORAGE: "SR.probe SR.probe_ext",
    RRD_VALUES: "VM.query_data_source host.query_data_source SR.query_data_source",
    LICENCE: "pool.get_license_state",
    GENERATIONS: "event.get_current_id",
}
_BY_CALL = {name: rule for rule, names in _RESULTS.items() for name in names.split()}


def ignored_result(call: str) -> Rule | None:
    """The rule by which a call's result is not compared (whether it succeeds still is)."""
    return _BY_CALL.get(call)


_OUTCOMES = {"VM.send_sysrq", "VM.send_trigger", "VM.call_plugin"}


def ignored_outcome(call: str) -> Rule | None:
    """The rule by which even success or failure of a call is not compared."""
    return HYPERVISOR if call in _OUTCOMES else None


# --- Errors ----------------------------------------------------------------------------------

INNER_TEXT = Rule(
    "inner_text",
    "Texts of INTERNAL_ERROR are the daemon's inner exceptions: compare only the code",
)


def error_parameters(code: str) -> Rule | None:
    """The rule by which an error's parameters are not compared."""
    if code == "INTERNAL_ERROR":
        return INNER_TEXT
    if code in ("HOST_NOT_ENOUGH_FREE_MEMORY", "MEMORY_CONSTRAINT_VIOLATION_MAXPIN"):
        return MEMORY_SUMS
    return None


def same_error_code(expected: str, got: str) -> bool:
    """Codes agree when equal; simulated storage numbers its failures itself (rule `storage`)."""
    failure = "SR_BACKEND_FAILURE_"
    return expected == got or (expected.startswith(failure) and got.startswith(failure))


# --- Order -------------------------------------------------------------------------------------

ORDER = Rule(
    "order",
    "Order does not matter in: sets of references, allowed_operations, allowed devices, tags,"
    " keys of maps, get_all. Event order: see `follow`",
)

_UNORDERED_FIELDS = {"allowed_operations", "tags", "events"}


def is_unordered(call: str, field: str, *, references: bool) -> bool:
    """Whether a list is a set. `references`: all its members are references."""
    if references or field in _UNORDERED_FIELDS:
        return True
    name = call.rpartition(".")[2]
    return (
        name.startswith("get_all")
        or re.fullmatch(r"get_(?:allowed_(?:operations|\w+_devices)|tags)", name) is not None
    )


# --- Members and counts of other scenarios' objects ------------------------------------------------

FOREIGN = Rule(
    "foreign",
    "A VM that is shown with other VMs' objects in set fields (`VIFs` of a network, `VDIs` of an"
    " SR) may carry objects of another scenario: ignore members that were never bound",
)

_SHARED_SETS = {"network.VIFs", "SR.VDIs", "host.resident_VMs"}
_SHARED_SUMS = {"SR.virtual_allocation"}


def is_shared_set(class_name: str, field: str) -> bool:
    """Whether a set may hold other scenarios' objects (rule `foreign`)."""
    return f"{class_name}.{field}" in _SHARED_SETS


def is_shared_sum(class_name: str, field: str) -> bool:
    """Whether a number sums up objects that may be other scenarios' (rule `foreign`)."""
    return f"{class_name}.{field}" in _SHARED_SUMS


_POOL_WIDE = {"get_all", "get_all_records", "get_all_records_where", "get_by_name_label"}


def is_pool_wide(call: str) -> bool:
    """Whether a call looks through all objects of a class, other scenarios' too (rule `foreign`)."""
    return call.rpartition(".")[2] in _POOL_WIDE


UNCOUNTED = {"session", "task"}
"""Classes of valid_ref_counts that the recorder itself changes (rule `counts`)."""


def is_uncounted(call: str) -> bool:
    """Whether the number of a class's objects says nothing (rule `counts`)."""
    return call.partition(".")[0].lower() in ("message", "session", "task")


# --- Placement ---------------------------------------------------------------------------------

PLACEMENT = Rule(
    "placement",
    "Where VM.start chooses a host without affinity the choice is partly random: take the"
    " recorded `resident_on` as one of the possible ones",
)

PLACED_FIELDS = {"VM.resident_on", "VM.scheduled_to_be_resident_on", "task.resident_on"}
"""Fields that show where a VM was put, or which host did the work."""


# --- Numbers and texts -----------------------------------------------------------------------------

ROUNDING = 2 * 1024 * 1024
"""Bytes by which simulated storage may round a size (rule `storage`)."""


def is_rounded_size(class_name: str, field: str) -> bool:
    return f"{class_name}.{field}" == "VDI.virtual_size"


DOMID_IN_TEXT = re.compile(r'("domid":)-?\d+')
"""The domid in the hypervisor's record of a VM, which VM.last_booted_record keeps (rule `domid`)."""

XAPI_BRIDGE = re.compile(r"xapi\d+")
"""Names of bridges that the daemon numbers itself (rule `bridges`)."""

FINGERPRINT = re.compile(r"<mac:\d+>(?::<mac:\d+>|:[0-9A-F]{2})+")
"""A fingerprint in which the recorder took parts for MACs (rule `macs`)."""

WAITS = Rule("waits", "Ignore: `seconds` (only whether a call waits: below 1 s or many seconds)")


def waits_alike(recorded: float, lab: float, real: float) -> bool:
    """Whether a call answered at once, or after many seconds, as recorded.

    `lab` and `real`: seconds that passed on the pool's clock and here. A slow machine is not a
    waiting call, so what was answered at once may take two seconds of real time.
    """
    if recorded < 1.0:
        return lab < 4.0 or real < 2.0
    if recorded >= 5.0:
        return lab >= 1.0
    return True


# --- HTTP ------------------------------------------------------------------------------------------


def is_rrd(request: str) -> bool:
    """Whether a request asks for RRDs, of whose answer only the form is real (rule `rrd`)."""
    return re.match(r"[A-Z]+ /(?:rrd_updates|vm_rrd|host_rrd|sr_rrd)\b", request) is not None


_EXPORT = re.compile(r"GET /(?:export_raw_vdi|export)\b")


def is_disk_data(request: str) -> bool:
    """Whether what follows a good status line is a disk's contents (rule `storage`)."""
    return _EXPORT.match(request) is not None


LOCATION = re.compile(r"^(Location: )https?://([^/:]+)(?::\d+)?/", re.IGNORECASE)
"""Where a redirection leads: scheme and port are those of the wrapper in front (rule `ports`)."""

PORTS = Rule("ports", "Ignore: ports; no TLS wrapper was in front")
ADDRESSES = Rule(
    "addresses",
    "Objects of the fresh pool have fixed names: the addresses of the test pool's hosts"
    " (192.0.2.1 is h1) stand for the addresses of this pool's",
)
ADDRESS = re.compile(r"192\.0\.2\.(\d+)")

PASSWORD = "xenroot"
"""The test pool's password in login steps: use your own."""


def all_rules() -> Sequence[Rule]:
    values: dict[str, Any] = globals()
    return [value for value in values.values() if isinstance(value, Rule)]
