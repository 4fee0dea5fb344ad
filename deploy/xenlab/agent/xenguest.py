"""Domains made, filled and ended through libxenctrl and libxenguest, as XAPI's xenopsd does it.

Prototypes and structures are those of Xen 4.17's tools/include/xenctrl.h, xenguest.h and public/domctl.h. What is
asked of the hypervisor, and in which order, is what libxl 4.17 asks (libxl_create.c, libxl_dom.c).
"""

from __future__ import annotations

import ctypes
import functools
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.xenlab.agent.errors import AgentError

# libxenguest brings libxenctrl.
LIBRARY = "libxenguest.so.4.17"
LOGGING = "libxentoollog.so.1"
# XTL_WARN of xentoollog.h: below it, the libraries tell of every step.
WARNING = 7
# XEN_DOMCTL_CDF_* and XEN_X86_EMU_* of public/domctl.h and arch-x86/xen.h.
HVM, HAP, EMULATED_LAPIC = 1, 2, 1
MOST_CHANNELS = 1023
HYPERVISORS_LIMIT = -1
GRANT_VERSION = 2
# Memory that Xen itself may need for a domain: libxl's LIBXL_MAXMEM_CONSTANT.
SLACK_KIB = 1024
PAGE_KIB = 4
TSC_NEVER_EMULATED = 2
PLAIN_STREAM = 0
DOM0 = 0


class _Creation(ctypes.Structure):
    """struct xen_domctl_createdomain"""

    _fields_ = [
        ("ssidref", ctypes.c_uint32),
        ("handle", ctypes.c_uint8 * 16),
        ("flags", ctypes.c_uint32),
        ("iommu_opts", ctypes.c_uint32),
        ("max_vcpus", ctypes.c_uint32),
        ("max_evtchn_port", ctypes.c_uint32),
        ("max_grant_frames", ctypes.c_int32),
        ("max_maptrack_frames", ctypes.c_int32),
        ("grant_opts", ctypes.c_uint32),
        ("vmtrace_size", ctypes.c_uint32),
        ("cpupool_id", ctypes.c_uint32),
        ("emulation_flags", ctypes.c_uint32),
        ("misc_flags", ctypes.c_uint32),
    ]


class _Error(ctypes.Structure):
    """xc_error"""

    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024)]


class _Callbacks(ctypes.Structure):
    """struct restore_callbacks, of which none is set: a plain stream needs none."""

    _fields_ = [("none", ctypes.c_void_p * 7)]


@dataclass(frozen=True)
class Shape:
    """A domain's size. `kind`: `pv` or `pvh`."""

    uuid: str
    kind: str
    vcpus: int
    memory_kib: int


@dataclass(frozen=True)
class Ring:
    """What a domain and dom0 talk over: a frame of the domain's memory, and an event channel."""

    frame: int
    port: int


@dataclass(frozen=True)
class Rings:
    store: Ring
    console: Ring


def create(shape: Shape) -> int:
    """A domain without memory, paused; its number. Takes some milliseconds. Raises AgentError `not_made`."""
    asked = _Creation(
        handle=(ctypes.c_uint8 * 16)(*uuid.UUID(shape.uuid).bytes),
        flags=0 if shape.kind == "pv" else HVM | HAP,
        max_vcpus=shape.vcpus,
        max_evtchn_port=MOST_CHANNELS,
        max_grant_frames=HYPERVISORS_LIMIT,
        max_maptrack_frames=HYPERVISORS_LIMIT,
        grant_opts=GRANT_VERSION,
        emulation_flags=0 if shape.kind == "pv" else EMULATED_LAPIC,
    )
    domid = ctypes.c_uint32(0)
    with _Handle.opened() as xc:
        xc.ask("xc_domain_create", ctypes.byref(domid), ctypes.byref(asked))
    return domid.value


def build(domid: int, shape: Shape, kernel: str, ramdisk: str, arguments: str) -> Rings:
    """Gives a PV domain its memory, with a kernel in it. Blocks; raises AgentError `not_made`."""
    store, console = ctypes.c_ulong(), ctypes.c_ulong()
    with _Handle.opened() as xc:
        _limit(xc, domid, shape)
        # No features taken away or added beside what a domain has by default: PAE, as libxl.
        flags = (ctypes.c_bool(True), ctypes.c_bool(False), ctypes.c_bool(False))
        xc.ask("xc_cpuid_apply_policy", domid, ctypes.c_bool(False), None, 0, *flags, None, None)
        store_port, console_port = _channel(xc, domid), _channel(xc, domid)
        xc.ask(
            "xc_linux_build",
            domid,
            ctypes.c_uint(shape.memory_kib // 1024),
            kernel.encode(),
            ramdisk.encode() or None,
            arguments.encode(),
            None,
            ctypes.c_ulong(0),
            ctypes.c_uint(store_port),
            ctypes.byref(store),
            ctypes.c_uint(console_port),
            ctypes.byref(console),
        )
    return Rings(Ring(store.value, store_port), Ring(console.value, console_port))


def restore(domid: int, shape: Shape, file: Path, offset: int) -> Rings:
    """Gives a domain memory and processors from libxc's stream in a file. Blocks; raises AgentError `not_made`."""
    store, console = ctypes.c_ulong(), ctypes.c_ulong()
    with _Handle.opened() as xc, file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        _limit(xc, domid, shape)
        store_port, console_port = _channel(xc, domid), _channel(xc, domid)
        xc.ask(
            "xc_domain_restore",
            stream.fileno(),
            domid,
            ctypes.c_uint(store_port),
            ctypes.byref(store),
            DOM0,
            ctypes.c_uint(console_port),
            ctypes.byref(console),
            DOM0,
            PLAIN_STREAM,
            ctypes.byref(_Callbacks()),
            -1,
        )
        # What it did not take; building a domain gives it back by itself.
        xc.ask("xc_domain_claim_pages", domid, ctypes.c_ulong(0))
    return Rings(Ring(store.value, store_port), Ring(console.value, console_port))


def destroy(domid: int) -> None:
    """Ends a domain and frees its memory, but for what others have mapped. Blocks; raises AgentError `not_ended`."""
    with _Handle.opened() as xc:
        xc.ask("xc_domain_destroy", domid, code="not_ended")


def _limit(xc: _Handle, domid: int, shape: Shape) -> None:
    xc.ask("xc_domain_max_vcpus", domid, shape.vcpus)
    most = ctypes.c_uint64(shape.memory_kib + SLACK_KIB)
    xc.ask("xc_domain_setmaxmem", domid, most)
    # Before dom0 sets anything aside to describe memory that is not there.
    xc.ask("xc_domain_claim_pages", domid, ctypes.c_ulong(shape.memory_kib // PAGE_KIB))
    if shape.kind == "pv":
        xc.ask("xc_domain_set_memmap_limit", domid, ctypes.c_ulong(shape.memory_kib))
    else:
        # libxl_get_required_shadow_memory: 1 MiB a vCPU, and 8 KiB for each MiB of memory.
        paging = 1024 * (1024 * shape.vcpus + 8 * (shape.memory_kib // 1024))
        xc.ask("xc_set_paging_mempool_size", domid, ctypes.c_uint64(-(-paging >> 20) << 20))
    xc.ask("xc_domain_set_tsc_info", domid, TSC_NEVER_EMULATED, ctypes.c_uint64(0), 0, 0)


def _channel(xc: _Handle, domid: int) -> int:
    return xc.ask("xc_evtchn_alloc_unbound", domid, DOM0)


class _Handle:
    """One of libxenctrl's, which says of its last error only: each piece of work has its own."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[_Handle]:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
        library.xc_interface_open.restype = ctypes.c_void_p
        if not (handle := library.xc_interface_open(_logger(), _logger(), 0)):
            raise AgentError("no_hypervisor", f"no hypervisor: {os.strerror(ctypes.get_errno())}")
        try:
            yield cls(library, ctypes.c_void_p(handle))
        finally:
            library.xc_interface_close(ctypes.c_void_p(handle))

    def ask(self, function: str, *arguments: object, code: str = "not_made") -> int:
        """What a function returns; below zero it failed, and AgentError says why."""
        result: int = getattr(self._library, function)(self._handle, *arguments)
        if result < 0:
            why = os.strerror(ctypes.get_errno())
            self._library.xc_get_last_error.restype = ctypes.POINTER(_Error)
            said = self._library.xc_get_last_error(self._handle).contents.message.decode()
            raise AgentError(code, f"{function}: {why}{said and f' ({said})'}")
        return result


@functools.cache
def _logger() -> ctypes.c_void_p:
    """Writes to the agent's standard error."""
    library = ctypes.CDLL(LOGGING)
    library.xtl_createlogger_stdiostream.restype = ctypes.c_void_p
    stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
    return ctypes.c_void_p(library.xtl_createlogger_stdiostream(stderr, WARNING, 0))
