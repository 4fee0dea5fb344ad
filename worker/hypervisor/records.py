"""The pool's objects as the control plane sees them: UUIDs, bytes, aware UTC times."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, NewType, TypeAlias
from uuid import UUID

from worker.hypervisor.errors import HypervisorError, UntranslatedFailure

MARKER_PREFIX = "hosting:"
"""other_config keys that begin so are ours; records show only those, in `marker`."""

TaskHandle = NewType("TaskHandle", str)
Marker: TypeAlias = Mapping[str, str]

PowerState: TypeAlias = Literal["Halted", "Paused", "Running", "Suspended"]
TaskStatus: TypeAlias = Literal["pending", "success", "failure", "cancelling", "cancelled"]
LockingMode: TypeAlias = Literal["network_default", "locked", "unlocked", "disabled"]
DiskMode: TypeAlias = Literal["RO", "RW"]
DiskType: TypeAlias = Literal["Disk", "CD", "Floppy"]


@dataclass(frozen=True, slots=True)
class PoolRecord:
    kind: ClassVar[str] = "pool"
    uuid: UUID
    name: str
    master: UUID | None
    default_sr: UUID | None = None
    ha_enabled: bool = False


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host together with its metrics. `address` is where its own API answers."""

    kind: ClassVar[str] = "host"
    uuid: UUID
    name: str
    address: str
    enabled: bool
    live: bool
    memory_total_bytes: int
    memory_free_bytes: int
    memory_overhead_bytes: int = 0
    cpu_count: int = 0
    software_version: Mapping[str, str] = field(default_factory=dict)
    api_version: tuple[int, int] = (0, 0)
    resident_vm_count: int = 0
    """Guests on this host; its own control domain is not one. Which: VmRecord.resident_on."""
    heartbeat_at: datetime | None = None
    current_operations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SrRecord:
    kind: ClassVar[str] = "sr"
    uuid: UUID
    name: str
    type: str
    content_type: str
    shared: bool
    physical_size_bytes: int
    physical_utilisation_bytes: int
    virtual_allocation_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PbdRecord:
    """Which host reaches which SR: only where `currently_attached`."""

    kind: ClassVar[str] = "pbd"
    uuid: UUID
    host: UUID | None
    sr: UUID | None
    currently_attached: bool


@dataclass(frozen=True, slots=True)
class VdiRecord:
    """A disk. `locked_by` names the hosts that hold it in `sm_config`, also after their death."""

    kind: ClassVar[str] = "vdi"
    uuid: UUID
    name: str
    sr: UUID | None
    virtual_size_bytes: int
    physical_utilisation_bytes: int = 0
    type: str = "user"
    managed: bool = True
    missing: bool = False
    read_only: bool = False
    is_a_snapshot: bool = False
    on_boot: Literal["persist", "reset"] = "persist"
    marker: Marker = field(default_factory=dict)
    locked_by: tuple[UUID, ...] = ()
    lock_keys: frozenset[str] = frozenset()

    @property
    def is_unfinished_clone(self) -> bool:
        """It wears the marker of the disk it was cloned from, so its maker never finished it."""
        own = self.marker.get(f"{MARKER_PREFIX}vdi")
        return own is not None and own != str(self.uuid)


@dataclass(frozen=True, slots=True)
class GuestMetrics:
    """What the guest says of itself: hostile input, and absent without an agent.

    `networks` has keys such as "0/ipv4/0". `pv_drivers_detected` needs no agent, only a kernel.
    """

    pv_drivers_detected: bool = False
    networks: Mapping[str, str] = field(default_factory=dict)
    os_version: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, str] = field(default_factory=dict)
    last_updated: datetime | None = None


@dataclass(frozen=True, slots=True)
class CurrentOperation:
    operation: str
    task: TaskHandle


@dataclass(frozen=True, slots=True)
class VmRecord:
    """A VM with its metrics. `vm_data` is the guest-writable part of `xenstore_data`, keys without
    the leading "vm-data/"; it is hostile input.
    """

    kind: ClassVar[str] = "vm"
    uuid: UUID
    name: str
    power_state: PowerState
    resident_on: UUID | None = None
    scheduled_to_be_resident_on: UUID | None = None
    is_a_template: bool = False
    is_a_snapshot: bool = False
    is_control_domain: bool = False
    memory_bytes: int = 0
    memory_overhead_bytes: int = 0
    vcpus: int = 1
    domid: int = -1
    marker: Marker = field(default_factory=dict)
    vm_data: Mapping[str, str] = field(default_factory=dict)
    current_operations: tuple[CurrentOperation, ...] = ()
    allowed_operations: frozenset[str] = frozenset()
    started_at: datetime | None = None
    guest: GuestMetrics | None = None

    def task_of(self, operation: str) -> TaskHandle | None:
        """The task that runs `operation` on this VM now: how a lost pool_migrate is found again."""
        return next((op.task for op in self.current_operations if op.operation == operation), None)


@dataclass(frozen=True, slots=True)
class VbdRecord:
    kind: ClassVar[str] = "vbd"
    uuid: UUID
    vm: UUID | None
    vdi: UUID | None
    device: int
    mode: DiskMode = "RW"
    type: DiskType = "Disk"
    bootable: bool = False
    empty: bool = False
    currently_attached: bool = False


@dataclass(frozen=True, slots=True)
class VifRecord:
    kind: ClassVar[str] = "vif"
    uuid: UUID
    vm: UUID | None
    network: UUID | None
    device: int
    mac: str
    locking_mode: LockingMode = "network_default"
    ipv4_allowed: tuple[str, ...] = ()
    ipv6_allowed: tuple[str, ...] = ()
    currently_attached: bool = False


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    kind: ClassVar[str] = "network"
    uuid: UUID
    name: str
    bridge: str
    mtu: int = 1500
    default_locking_mode: Literal["unlocked", "disabled"] = "unlocked"
    marker: Marker = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PifRecord:
    """A host's interface; `vlan` is -1 where it is not one."""

    kind: ClassVar[str] = "pif"
    uuid: UUID
    host: UUID | None
    network: UUID | None
    device: str
    vlan: int = -1
    physical: bool = False
    management: bool = False
    currently_attached: bool = False


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A long call of the pool. `result` is what it made, if it made an object and is finished."""

    kind: ClassVar[str] = "task"
    uuid: UUID
    handle: TaskHandle
    name: str
    status: TaskStatus
    progress: float = 0.0
    created: datetime | None = None
    finished: datetime | None = None
    result: UUID | None = None
    error: HypervisorError | UntranslatedFailure | None = field(default=None, compare=False)
    marker: Marker = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        return self.status in ("success", "failure", "cancelled")


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """Something the pool wrote down about one object, e.g. HA_HOST_FAILED. Priority 1 is worst."""

    kind: ClassVar[str] = "message"
    uuid: UUID
    name: str
    priority: int
    about_class: str
    about: UUID | None
    at: datetime | None
    body: str = ""


@dataclass(frozen=True, slots=True)
class ConsoleRecord:
    """Where a running VM's console is served: on the host it is resident on, not at the master."""

    uuid: UUID
    vm: UUID
    protocol: Literal["vt100", "rfb", "rdp"]
    location: str


Record: TypeAlias = (
    PoolRecord
    | HostRecord
    | SrRecord
    | PbdRecord
    | VdiRecord
    | VmRecord
    | VbdRecord
    | VifRecord
    | NetworkRecord
    | PifRecord
    | TaskRecord
    | MessageRecord
)
