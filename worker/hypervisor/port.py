"""What the control plane needs of a hypervisor, in its own words.

Standard library only. Objects are named by UUID, never by a reference that only the driver's session
understands; sizes are bytes; times are aware UTC datetimes. Everything a driver may raise is one of the
five errors below, or `UntranslatedFailure`, which means a bug of ours and not an answer of the pool.

Two ways of reading: the calls of `Hypervisor` ask the pool now; `Watcher.changes` keeps a mirror.
Two ways of doing: calls that the pool finishes at once return the record; calls that last return a
`TaskHandle` at once, which `wait` and `poll` look after. A handle is plain text and may be stored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Literal, NewType, Protocol, TypeAlias
from uuid import UUID

MARKER_PREFIX = "hosting:"
"""other_config keys that begin so are ours; records show only those, in `marker`."""

TaskHandle = NewType("TaskHandle", str)
Marker: TypeAlias = Mapping[str, str]

PowerState: TypeAlias = Literal["Halted", "Paused", "Running", "Suspended"]
TaskStatus: TypeAlias = Literal["pending", "success", "failure", "cancelling", "cancelled"]
LockingMode: TypeAlias = Literal["network_default", "locked", "unlocked", "disabled"]
DiskMode: TypeAlias = Literal["RO", "RW"]
DiskType: TypeAlias = Literal["Disk", "CD", "Floppy"]


# ---------------------------------------------------------------------------------------------- errors


class HypervisorError(Exception):
    """Base of what a driver may raise; nothing else may cross the port.

    `reason` is a word of ours, stable, fit for programs and journals. `str()` is a sentence without
    names or addresses of the pool, so it may be shown to a tenant. What the hypervisor itself said
    stays in `__cause__`, for operators. `may_have_happened` is true when the call may have taken
    effect although it failed: look before doing it again.
    """

    sentence: ClassVar[str] = "The hypervisor call failed"

    def __init__(self, reason: str, *, may_have_happened: bool = False) -> None:
        super().__init__(f"{self.sentence} ({reason}).")
        self.reason = reason
        self.may_have_happened = may_have_happened


class Unreachable(HypervisorError):
    """No answer in time, or none that means anything. See `may_have_happened`."""

    sentence = "The pool did not answer"


class Busy(HypervisorError):
    """Not now: another operation holds the object, or our view of it was stale. Look again later."""

    sentence = "The object is busy"


class Refused(HypervisorError):
    """The hypervisor will never accept this call as it stands."""

    sentence = "The hypervisor refused the call"


class NoRoom(HypervisorError):
    """The chosen host or SR cannot take it; another might."""

    sentence = "There is no room at the chosen place"


class Gone(HypervisorError):
    """The object named is not there."""

    sentence = "The object does not exist"


class UntranslatedFailure(Exception):
    """The hypervisor said something the driver's table does not know: a bug of ours.

    Not a `HypervisorError`, so that no workflow takes its way back because of it. `code` is for the
    journal and the alarm; parameters of the failure are only in `__cause__`.
    """

    def __init__(self, code: str, *, may_have_happened: bool = True) -> None:
        super().__init__(f"The hypervisor answered with an error that is not known here ({code}).")
        self.code = code
        self.may_have_happened = may_have_happened


# --------------------------------------------------------------------------------------------- records


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


# --------------------------------------------------------------------------------------- what is wanted


@dataclass(frozen=True, slots=True)
class BootHvm:
    """Firmware and bootloader from the first disk: works on every pool."""

    firmware: Literal["bios", "uefi"] = "bios"


@dataclass(frozen=True, slots=True)
class BootDirect:
    """A kernel file of the host itself, as PVH. Only on pools that allow it."""

    kernel: str
    ramdisk: str = ""
    args: str = ""


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
class VdiSpec:
    """A disk that should exist; the SR may round `virtual_size_bytes` up."""

    name: str
    marker: Marker
    sr: UUID
    virtual_size_bytes: int
    description: str = ""


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


# -------------------------------------------------------------------------------------------- watching


@dataclass(frozen=True, slots=True)
class Removed:
    kind: str
    uuid: UUID


@dataclass(frozen=True, slots=True)
class Changes:
    """What a watcher learned. `full`: the records are all there is, anything else is gone."""

    full: bool
    records: tuple[Record, ...]
    removed: tuple[Removed, ...]
    master: UUID | None


class Watcher(Protocol):
    """Keeps in step with one pool. Not for several threads at once."""

    def changes(self, timeout: timedelta) -> Changes:
        """Wait until something changed, at most `timeout`; then say what. Nothing may have.

        Applying an answer twice is harmless. Records may come again unchanged. Raises Unreachable:
        call again later, the watcher then goes on or starts over with `full` as needed.
        """
        ...

    def close(self) -> None: ...


# ------------------------------------------------------------------------------------ metrics, consoles


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one data source, e.g. kind "vm", name "cpu0" (0 to 1), "vif_0_rx" (bytes/s)."""

    kind: Literal["vm", "host"]
    uuid: UUID
    name: str
    at: datetime
    value: float


class ByteStream(Protocol):
    """A console after its handshake: raw bytes both ways."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


# ------------------------------------------------------------------------------------------ connecting


@dataclass(frozen=True, slots=True)
class HostCertificate:
    """A host's own certificate, to be pinned. `fingerprint` is SHA-256, "AB:CD:…", for people."""

    pem: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host of the pool at which the master may be found.

    `address` is a name, an IPv4 or an IPv6 address, optionally with a port ("10.0.0.1:443",
    "[fd00::1]:443"); without one the port of the pool's URL is meant.
    """

    address: str
    certificate: str
    host: UUID | None = None


@dataclass(frozen=True, slots=True)
class PoolConnection:
    """How to reach one pool. `url` ("https://10.0.0.1") is tried first and gives the default port."""

    pool: str
    url: str
    username: str
    password: str = field(repr=False)
    candidates: tuple[Candidate, ...] = ()
    call_timeout: timedelta = timedelta(seconds=20)


CandidatesChanged: TypeAlias = Callable[[tuple[Candidate, ...]], None]
"""Called after each login with all hosts of the pool, to be stored in place of the old list."""


# -------------------------------------------------------------------------------------------- the port


class Hypervisor(Protocol):
    """One pool. Thread-safe. Each call ends within the call timeout unless it says otherwise.

    Every call may raise Unreachable, Busy, Refused, NoRoom and UntranslatedFailure; calls that name
    an object by UUID may raise Gone. `ensure_…`, `clone_vdi` and everything that removes may be
    repeated after any failure without making a second object.
    """

    # reading ------------------------------------------------------------------------------------
    def pool(self) -> PoolRecord: ...
    def hosts(self) -> tuple[HostRecord, ...]: ...
    def host(self, host: UUID) -> HostRecord: ...
    def srs(self) -> tuple[SrRecord, ...]: ...
    def pbds(self) -> tuple[PbdRecord, ...]: ...
    def networks(self) -> tuple[NetworkRecord, ...]: ...
    def pifs(self) -> tuple[PifRecord, ...]: ...
    def vms(self) -> tuple[VmRecord, ...]: ...
    def vm(self, vm: UUID) -> VmRecord: ...
    def find_vm(self, name: str) -> VmRecord | None:
        """The VM of that name that carries our marker; templates and snapshots do not count."""
        ...

    def vdis(self) -> tuple[VdiRecord, ...]: ...
    def vdi(self, vdi: UUID) -> VdiRecord: ...
    def find_vdi(self, name: str, *, sr: UUID | None = None) -> VdiRecord | None:
        """The finished disk of that name that carries our marker, on that SR or any."""
        ...

    def vbds(self, vm: UUID) -> tuple[VbdRecord, ...]: ...
    def vifs(self, vm: UUID) -> tuple[VifRecord, ...]: ...
    def free_memory_bytes(self, host: UUID) -> int:
        """What the pool itself would still give out on that host."""
        ...

    def assert_can_boot_here(self, vm: UUID, host: UUID) -> None:
        """Return, or raise NoRoom with the reason why not."""
        ...

    def vms_preventing_evacuation(self, host: UUID) -> Mapping[UUID, str]:
        """VM → reason, for those that cannot leave the host alive."""
        ...

    def messages(self, since: datetime) -> tuple[MessageRecord, ...]: ...
    def server_time(self, host: UUID) -> datetime: ...
    def host_answers(self, host: UUID, timeout: timedelta) -> bool:
        """Whether that host's own API says anything at all. Never raises: no answer is False."""
        ...

    # making -------------------------------------------------------------------------------------
    def ensure_vm(self, spec: VmSpec) -> VmRecord:
        """The Halted (or already running) VM of that name, made if there is none.

        Of several of one name the one with `hosting:operation` of the spec wins, then the oldest
        reference; the rest is left for the orphan sweep.
        """
        ...

    def ensure_vdi(self, spec: VdiSpec) -> VdiRecord:
        """The disk of that name on that SR, made if there is none. Its content is not looked at."""
        ...

    def clone_vdi(self, source: UUID, *, name: str, marker: Marker) -> VdiRecord:
        """A copy-on-write clone of `source`, named and marked; found again by its name.

        The pool copies name and marker from the source first, so a clone whose maker died wears the
        source's: such are told by `VdiRecord.is_unfinished_clone` and swept, never adopted blindly.
        """
        ...

    def ensure_vbd(self, spec: VbdSpec) -> VbdRecord:
        """Refused("conflict") when another disk sits on that device."""
        ...

    def ensure_vif(self, spec: VifSpec) -> VifRecord: ...
    def ensure_network(self, spec: NetworkSpec) -> NetworkRecord: ...
    def ensure_vlan(self, network: UUID, *, device: str, tag: int) -> tuple[PifRecord, ...]:
        """The network's VLAN interface on every live host that has `device`."""
        ...

    def import_vdi(
        self, vdi: UUID, data: Iterable[tuple[int, bytes]], *, timeout: timedelta
    ) -> None:
        """Fill a fresh VDI; may take up to `timeout`.

        `data` is (offset, bytes) in rising order, of any piece size; what is not given reads as
        zeros. Refused("import_failed"): destroy the VDI and start with a new one.
        """
        ...

    def export_vdi(self, vdi: UUID, *, timeout: timedelta) -> Iterator[bytes]:
        """The whole disk, raw, in order. `timeout` is for each piece."""
        ...

    def resize_vdi(self, vdi: UUID, virtual_size_bytes: int) -> None: ...
    def set_vm_marker(self, vm: UUID, marker: Marker) -> None: ...
    def set_vdi_marker(self, vdi: UUID, marker: Marker) -> None: ...
    def set_vm_data(self, vm: UUID, data: Mapping[str, str]) -> None:
        """Replace what the guest reads under vm-data/. Live. Never a secret."""
        ...

    def set_vif_locking(
        self, vif: UUID, mode: LockingMode, *, ipv4: tuple[str, ...], ipv6: tuple[str, ...] = ()
    ) -> None: ...

    # running ------------------------------------------------------------------------------------
    def start_on(self, vm: UUID, host: UUID) -> TaskHandle: ...
    def clean_shutdown(self, vm: UUID) -> TaskHandle: ...
    def hard_shutdown(self, vm: UUID) -> TaskHandle: ...
    def clean_reboot(self, vm: UUID) -> TaskHandle: ...
    def hard_reboot(self, vm: UUID) -> TaskHandle: ...
    def pool_migrate(self, vm: UUID, host: UUID) -> TaskHandle: ...

    # tasks --------------------------------------------------------------------------------------
    def poll(self, task: TaskHandle) -> TaskRecord:
        """Its state now. Gone when the pool has forgotten it: decide by the object's state."""
        ...

    def wait(self, task: TaskHandle, timeout: timedelta) -> TaskRecord:
        """Wait for its end and forget it. Raises what it failed with, translated.

        Unreachable("task_still_running", may_have_happened) at the timeout: it goes on without us.
        """
        ...

    def cancel(self, task: TaskHandle) -> None:
        """Ask it to stop. Wait for it afterwards: it may end either way. A finished one is no error."""
        ...

    def forget(self, task: TaskHandle) -> None:
        """Drop the pool's record of it. Not there is fine."""
        ...

    # removing -----------------------------------------------------------------------------------
    def destroy_vm(self, vm: UUID) -> None:
        """Stop it hard if need be and remove it with its VBDs, VIFs and snapshots, not its disks.

        Not there is fine. May take as long as a hard shutdown.
        """
        ...

    def destroy_vdi(self, vdi: UUID) -> None:
        """Not there is fine. Busy("disk_in_use") while a VM has it."""
        ...

    def destroy_network(self, network: UUID) -> None:
        """Remove its VLANs, then itself. Refused("network_in_use") while a running VM is on it."""
        ...

    def destroy_messages(self, messages: Iterable[UUID]) -> None: ...

    # hosts --------------------------------------------------------------------------------------
    def disable_host(self, host: UUID) -> None:
        """No new VM there, also after its API restarts. Those on it stay."""
        ...

    def enable_host(self, host: UUID) -> None: ...
    def declare_dead(self, host: UUID) -> TaskHandle:
        """ONLY after a proven fence. Its VMs become Halted, its locks are cleared, it is disabled."""
        ...

    def power_state_reset(self, vm: UUID) -> None:
        """ONLY for a VM that is proven not to run. Leaves disk locks behind: see clear_locks."""
        ...

    def clear_locks(self, vdi: UUID, host: UUID) -> None:
        """ONLY after a proven fence of `host`: drop the keys its death left on the disk."""
        ...

    def emergency_transition_to_master(self, host: UUID) -> None:
        """ONLY after a proven fence of the master: make `host` the new one.

        Returns when the call is accepted; until the new master answers, calls are Unreachable. Then
        `recover_slaves`.
        """
        ...

    def recover_slaves(self) -> tuple[UUID, ...]:
        """Tell the other hosts who their master is now; those that took it."""
        ...

    def designate_new_master(self, host: UUID) -> None: ...
    def sync_database(self) -> None:
        """Make the slaves' copies of the pool's database fresh: after a batch of creations."""
        ...

    # looking after ------------------------------------------------------------------------------
    def consoles(self, vm: UUID) -> tuple[ConsoleRecord, ...]: ...
    def open_console(self, console: ConsoleRecord, timeout: timedelta) -> ByteStream: ...
    def metrics(self, host: UUID, *, since: datetime, interval: timedelta) -> tuple[Sample, ...]:
        """Samples of the host and of all VMs on it. `since` is by the host's clock."""
        ...

    def server_certificates(self) -> tuple[Candidate, ...]:
        """All hosts of the pool with the certificate each will show, over the trusted connection."""
        ...

    def watcher(self) -> Watcher: ...
    def close(self) -> None:
        """Log out. Other processes that share the session log in again by themselves."""
        ...
