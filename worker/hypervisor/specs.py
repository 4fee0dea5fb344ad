"""What should exist: the arguments of `ensure_…`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from worker.hypervisor.records import DiskMode, DiskType, LockingMode, Marker


@dataclass(frozen=True, slots=True)
class BootHvm:
    """Firmware and bootloader from the first disk: works on every pool."""

    firmware: Literal["bios", "uefi"] = "bios"


@dataclass(frozen=True, slots=True)
class BootDirect:
    """A kernel file of the host itself. Only on pools that allow it; as PV not since XCP-ng 8.3."""

    kernel: str
    ramdisk: str = ""
    args: str = ""
    kind: Literal["pvh", "pv"] = "pvh"


@dataclass(frozen=True, slots=True)
class VmSpec:
    """A VM that should exist. `name` is deterministic and, with `marker`, how it is found again."""

    name: str
    marker: Marker
    memory_bytes: int
    vcpus: int
    boot: BootHvm | BootDirect = BootHvm()
    description: str = ""
    vm_data: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, str] = field(default_factory=dict)
    affinity: UUID | None = None
    vcpu_weight: int | None = None
    vcpu_cap_percent: int | None = None


@dataclass(frozen=True, slots=True)
class CloneSpec:
    """A copy-on-write clone of the disk `source`. Its name says all: one of a pool, whatever the SR."""

    name: str
    marker: Marker
    source: UUID


@dataclass(frozen=True, slots=True)
class VdiSpec:
    """A disk that should exist; the SR may round `virtual_size_bytes` up.

    `content` is what it starts with, zeros follow. A disk that is found is filled again: nobody knows how
    much of an earlier try it has. So it is for disks that no VM runs with.
    """

    name: str
    marker: Marker
    sr: UUID
    virtual_size_bytes: int
    description: str = ""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class VbdSpec:
    vm: UUID
    vdi: UUID
    device: int
    bootable: bool = False
    mode: DiskMode = "RW"
    type: DiskType = "Disk"


@dataclass(frozen=True, slots=True)
class VifSpec:
    """`rate_kbps` is kilobytes per second of what the guest sends; None is no limit."""

    vm: UUID
    network: UUID
    device: int
    mac: str
    locking_mode: LockingMode = "locked"
    ipv4_allowed: tuple[str, ...] = ()
    ipv6_allowed: tuple[str, ...] = ()
    mtu: int = 1500
    rate_kbps: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    name: str
    marker: Marker
    description: str = ""
    mtu: int = 1500
