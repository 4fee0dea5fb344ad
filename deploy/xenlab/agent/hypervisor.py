"""The hypervisor, asked through libxenctrl: what runs, for how long, and who pauses.

Structures are those of Xen 4.17's tools/include/xenctrl.h and public/sysctl.h. No process is started
for any of this: starting one takes an emulated processor some 50 ms.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from dataclasses import dataclass

from deploy.xenlab.agent.errors import AgentError

LIBRARY = "libxenctrl.so.4.17"
PAGE = 4096
# SHUTDOWN_* of public/sched.h.
REASONS = {0: "poweroff", 1: "reboot", 2: "suspend", 3: "crash", 4: "crash", 5: "suspend"}


class _DomainInfo(ctypes.Structure):
    _fields_ = [
        ("domid", ctypes.c_uint32),
        ("ssidref", ctypes.c_uint32),
        ("dying", ctypes.c_uint, 1),
        ("crashed", ctypes.c_uint, 1),
        ("shutdown", ctypes.c_uint, 1),
        ("paused", ctypes.c_uint, 1),
        ("blocked", ctypes.c_uint, 1),
        ("running", ctypes.c_uint, 1),
        ("flags", ctypes.c_uint, 26),
        ("shutdown_reason", ctypes.c_uint),
        ("nr_pages", ctypes.c_ulong),
        ("nr_outstanding_pages", ctypes.c_ulong),
        ("nr_shared_pages", ctypes.c_ulong),
        ("nr_paged_pages", ctypes.c_ulong),
        ("shared_info_frame", ctypes.c_ulong),
        ("cpu_time", ctypes.c_uint64),
        ("max_memkb", ctypes.c_ulong),
        ("nr_online_vcpus", ctypes.c_uint),
        ("max_vcpu_id", ctypes.c_uint),
        ("handle", ctypes.c_uint8 * 16),
        # What follows is of no interest; room for it, and for what a later release may add.
        ("rest", ctypes.c_uint8 * 256),
    ]


class _PhysicalInfo(ctypes.Structure):
    _fields_ = [
        ("threads_per_core", ctypes.c_uint32),
        ("cores_per_socket", ctypes.c_uint32),
        ("nr_cpus", ctypes.c_uint32),
        ("max_cpu_id", ctypes.c_uint32),
        ("nr_nodes", ctypes.c_uint32),
        ("max_node_id", ctypes.c_uint32),
        ("cpu_khz", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("arch_capabilities", ctypes.c_uint32),
        ("total_pages", ctypes.c_uint64),
        ("free_pages", ctypes.c_uint64),
        ("scrub_pages", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 256),
    ]


@dataclass(frozen=True)
class Running:
    """A domain as the hypervisor has it. `ended`: why it stopped, "" while it has not."""

    domid: int
    uuid: str
    paused: bool
    dying: bool
    ended: str
    cpu_ns: int
    memory_bytes: int
    vcpus: int


@dataclass(frozen=True)
class Host:
    """The machine; memory in bytes."""

    cpus: int
    memory_total: int
    memory_free: int


class Hypervisor:
    """A handle of libxenctrl. Calls are short: none waits."""

    def __init__(self) -> None:
        self._xc = ctypes.CDLL(LIBRARY, use_errno=True)
        self._xc.xc_interface_open.restype = ctypes.c_void_p
        handle = self._xc.xc_interface_open(None, None, 0)
        if not handle:
            raise AgentError("no_hypervisor", f"no hypervisor: {os.strerror(ctypes.get_errno())}")
        self._handle = ctypes.c_void_p(handle)

    def domains(self) -> list[Running]:
        """Every domain but dom0."""
        found = []
        # One at a time: the array's stride would depend on the structure's unread end.
        info, first = _DomainInfo(), 1
        while self._xc.xc_domain_getinfo(self._handle, first, 1, ctypes.byref(info)) == 1:
            found.append(_running(info))
            first = info.domid + 1
        return found

    def dom0_cpu_ns(self) -> int:
        """How long dom0 has computed, in nanoseconds."""
        info = _DomainInfo()
        self._check(self._xc.xc_domain_getinfo(self._handle, 0, 1, ctypes.byref(info)) - 1, "dom0")
        return int(info.cpu_time)

    def host(self) -> Host:
        info = _PhysicalInfo()
        self._check(self._xc.xc_physinfo(self._handle, ctypes.byref(info)), "physinfo")
        return Host(info.nr_cpus, info.total_pages * PAGE, info.free_pages * PAGE)

    def pause(self, domid: int) -> None:
        self._check(self._xc.xc_domain_pause(self._handle, domid), "pause")

    def unpause(self, domid: int) -> None:
        self._check(self._xc.xc_domain_unpause(self._handle, domid), "unpause")

    def _check(self, result: int, what: str) -> None:
        if result != 0:
            raise AgentError("hypervisor_failed", f"{what}: {os.strerror(ctypes.get_errno())}")


def _running(info: _DomainInfo) -> Running:
    ended = REASONS.get(info.shutdown_reason, "crash") if info.shutdown else ""
    return Running(
        domid=info.domid,
        uuid=str(uuid.UUID(bytes=bytes(info.handle))),
        paused=bool(info.paused),
        dying=bool(info.dying),
        ended="killed" if info.dying and not ended else ended,
        cpu_ns=info.cpu_time,
        memory_bytes=info.nr_pages * PAGE,
        vcpus=info.nr_online_vcpus,
    )
