"""What a host measures of itself and of the VMs on it: the data sources behind RRDs.

Nothing is sampled. A series is a function of its object and of time, so that any moment of an
archive can be asked for at no standing cost: memory is what the object has, load is a smooth
curve of its own that is high while a guest boots. Names and units: XAPI.md 5.4, xcp-rrdd.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row

if TYPE_CHECKING:
    from deploy.lab.machine import Machine

KIB = 1024
IDLE, BUSY = 0.01, 0.35


@dataclass(frozen=True)
class Source:
    """One series; `at` gives its value at a moment of lab time (seconds since the epoch)."""

    name: str
    at: Callable[[float], float]
    units: str = ""
    description: str = ""
    kind: str = "GAUGE"
    minimum: float = 0.0
    maximum: float = math.inf


def host_sources(machine: Machine) -> list[Source]:
    """Of the host itself."""
    lab, host = machine.lab, machine.host
    metrics = lab.db.get("host_metrics", host.metrics)
    total = float(metrics.memory_total // KIB)
    guests = [vm for vm in _vms(machine) if not vm.is_control_domain]
    used = sum(_memory(machine, vm) for vm in _vms(machine)) / KIB
    cpus = _cpu_count(machine)

    def load(t: float) -> float:
        busy = sum(_load(vm, t) * _vcpus(vm) for vm in guests)
        return min(1.0, busy / cpus + wave(host.uuid, t, IDLE, 2 * IDLE))

    shares = (("xapi_allocation_kib", 0.5), ("xapi_free_memory_kib", 0.2))
    sources = [
        Source("pool_session_count", lambda t: float(lab.db.count("session"))),
        Source("pool_session_creation_rate", lambda t: 0.0, kind="DERIVE"),
        Source("pool_task_count", lambda t: float(lab.db.count("task"))),
        Source("pool_vgpu_migration_rate", lambda t: 0.0, kind="DERIVE"),
        *(Source(name, _constant(share * 64 * KIB), "KiB") for name, share in shares),
        Source("xapi_live_memory_kib", _constant(24.0 * KIB), "KiB"),
        Source("xapi_memory_usage_kib", _constant(64.0 * KIB), "KiB"),
        Source("xapi_open_fds", _constant(64.0)),
    ]
    sources += [
        Source(f"cpu{n}", load, "(fraction)", f"Physical cpu usage for cpu {n}", maximum=1.0)
        for n in range(cpus)
    ]
    sources += [
        Source("cpu_avg", load, "(fraction)", "Average physical cpu usage", maximum=1.0),
        Source("loadavg", lambda t: load(t) * cpus, "(fraction)", "Domain0 loadavg"),
        Source("memory_total_kib", _constant(total), "KiB", "Total amount of memory in use"),
        Source("memory_free_kib", _constant(max(0.0, total - used)), "KiB", "Free memory"),
    ]
    for pif in lab.db.rows("PIF", host.PIFs):
        if pif.physical:
            sources += _traffic(f"pif_{pif.device}", pif.uuid, pif.currently_attached)
    return sources


def vm_sources(machine: Machine, vm: Row) -> list[Source]:
    """Of a VM that runs on the machine; none when its hypervisor does not measure guests."""
    if not (vm.is_control_domain or machine.lab.config.hypervisor.measures_guests):
        return []
    measured = machine.lab.backend.vm_sources(machine, vm)
    if measured is not None:
        return measured
    memory = float(_memory(machine, vm))
    sources = [Source("memory", _constant(memory), "B", "Memory currently allocated to VM")]
    if vm.is_control_domain:
        return sources
    sources.append(Source("memory_target", _constant(memory), "B", "Target of VM balloon driver"))
    guest = machine.lab.db.find("VM_guest_metrics", vm.guest_metrics)
    if guest is not None and guest.PV_drivers_detected:
        free = Source(
            "memory_internal_free",
            lambda t: (1 - _load(vm, t)) * memory / KIB,
            "KiB",
            "Memory used as reported by the guest agent",
        )
        sources.append(free)
    sources += [
        Source(
            f"cpu{n}", lambda t: _load(vm, t), "(fraction)", f"CPU{n} usage", "DERIVE", maximum=1.0
        )
        for n in range(_vcpus(vm))
    ]
    for vif in machine.lab.db.rows("VIF", vm.VIFs):
        if vif.currently_attached:
            sources += _traffic(f"vif_{vif.device}", vif.uuid, True)
    for vbd in machine.lab.db.rows("VBD", vm.VBDs):
        if vbd.currently_attached and vbd.device:
            sources += _disk(f"vbd_{vbd.device}", vbd.uuid)
    return sources


def wave(seed: str, t: float, low: float, high: float) -> float:
    """A smooth curve of its own for each seed, between `low` and `high`."""
    phase = zlib.crc32(seed.encode()) / 2**32
    part = (math.sin(t / 47 + phase * 6.283) + math.sin(t / 613 + phase * 40)) / 4 + 0.5
    return low + (high - low) * part


def _load(vm: Row, t: float) -> float:
    """Fraction of its vCPUs that a guest uses."""
    return wave(vm.uuid, t, IDLE, BUSY)


def _traffic(name: str, seed: str, up: bool) -> list[Source]:
    peak = 200.0 * KIB if up else 0.0
    return [
        Source(
            f"{name}_{direction}",
            lambda t, salt=direction: wave(seed + salt, t, 0.0, peak),  # type: ignore[misc]
            "B/s",
            f"Bytes per second {word} on {name}",
            "DERIVE",
        )
        for direction, word in (("tx", "transmitted"), ("rx", "received"))
    ]


def _disk(name: str, seed: str) -> list[Source]:
    return [
        Source(
            f"{name}_{direction}",
            lambda t, salt=direction: wave(seed + salt, t, 0.0, 512.0 * KIB),  # type: ignore[misc]
            "B/s",
            f"{word} {name}, in bytes per second",
            "DERIVE",
        )
        for direction, word in (("write", "Writes to"), ("read", "Reads from"))
    ]


def _constant(value: float) -> Callable[[float], float]:
    return lambda t: value


def _vms(machine: Machine) -> list[Row]:
    return machine.lab.db.rows("VM", machine.host.resident_VMs)


def _memory(machine: Machine, vm: Row) -> int:
    metrics: Any = machine.lab.db.find("VM_metrics", vm.metrics)
    actual = metrics.memory_actual if metrics is not None else 0
    return int(actual or vm.memory_dynamic_max)


def _vcpus(vm: Row) -> int:
    return int(vm.VCPUs_at_startup)


def _cpu_count(machine: Machine) -> int:
    return int(machine.host.cpu_info.get("cpu_count", 1))
