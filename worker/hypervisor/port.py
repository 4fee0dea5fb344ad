"""What the control plane needs of a hypervisor, in its own words.

Standard library only. Objects are named by UUID, never by a reference that only the driver's session
understands; sizes are bytes; times are aware UTC datetimes. Everything a driver may raise is one of the
five errors in `errors`, or `UntranslatedFailure`, which means a bug of ours and not an answer of the pool.

Two ways of reading: the calls of `Hypervisor` ask the pool now; `Watcher.changes` keeps a mirror.
Two ways of doing: calls that the pool finishes at once return the record; calls that last return a
`TaskHandle` at once, which `wait` and `poll` look after. A handle is plain text and may be stored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

from worker.hypervisor.errors import (
    Busy,
    Gone,
    HypervisorError,
    NoRoom,
    Refused,
    Unreachable,
    UntranslatedFailure,
)
from worker.hypervisor.records import (
    MARKER_PREFIX,
    ConsoleRecord,
    CurrentOperation,
    DiskMode,
    DiskType,
    GuestMetrics,
    HostRecord,
    LockingMode,
    Marker,
    MessageRecord,
    NetworkRecord,
    PbdRecord,
    PifRecord,
    PoolRecord,
    PowerState,
    Record,
    SrRecord,
    TaskHandle,
    TaskRecord,
    TaskStatus,
    VbdRecord,
    VdiRecord,
    VifRecord,
    VmRecord,
)
from worker.hypervisor.specs import (
    BootDirect,
    BootHvm,
    CloneSpec,
    NetworkSpec,
    VbdSpec,
    VdiSpec,
    VifSpec,
    VmSpec,
)

__all__ = [
    "MARKER_PREFIX",
    "BootDirect",
    "BootHvm",
    "Busy",
    "ByteStream",
    "Candidate",
    "CandidatesChanged",
    "Changes",
    "CloneSpec",
    "ConsoleRecord",
    "CurrentOperation",
    "DiskMode",
    "DiskType",
    "Gone",
    "GuestMetrics",
    "HostCertificate",
    "HostRecord",
    "Hypervisor",
    "HypervisorError",
    "LockingMode",
    "Marker",
    "MessageRecord",
    "NetworkRecord",
    "NetworkSpec",
    "NoRoom",
    "PbdRecord",
    "PifRecord",
    "PoolConnection",
    "PoolRecord",
    "PowerState",
    "Record",
    "Refused",
    "Removed",
    "Sample",
    "SrRecord",
    "TaskHandle",
    "TaskRecord",
    "TaskStatus",
    "Unreachable",
    "UntranslatedFailure",
    "VbdRecord",
    "VbdSpec",
    "VdiRecord",
    "VdiSpec",
    "VifRecord",
    "VifSpec",
    "VmRecord",
    "VmSpec",
    "Watcher",
]


# -------------------------------------------------------------------------------------------- watching


@dataclass(frozen=True, slots=True)
class Removed:
    kind: str
    uuid: UUID


@dataclass(frozen=True, slots=True)
class Changes:
    """What a watcher learned. `full`: the records are all there is, anything else is gone.

    Another `master` than before is told with `full`.
    """

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
    def recv_nowait(self, size: int, /) -> bytes | None:
        """What is there already, for one who waits for many; None when nothing is. Ask again at once
        until it is None: what TLS has unpacked does not make `fileno` readable. Raises OSError."""
        ...

    def sendall(self, data: bytes, /) -> None: ...
    def send_nowait(self, data: bytes, /) -> int:
        """How much of it could be sent without waiting, which may be nothing. Raises OSError."""
        ...

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
        """The disk of that name on that SR, made if there is none. What it holds is not looked at.

        Refused("import_failed") when its `content` did not arrive: destroy it and begin again.
        """
        ...

    def ensure_vdis(self, specs: Sequence[VdiSpec | CloneSpec]) -> tuple[VdiRecord, ...]:
        """Several disks, made side by side; each is found, or made, as the next two say."""
        ...

    def clone_vdi(self, source: UUID, *, name: str, marker: Marker) -> VdiRecord:
        """A copy-on-write clone of `source`, named and marked; found again by its name.

        The pool copies name and marker from the source first, so a clone whose maker died wears the
        source's: such are told by `VdiRecord.is_unfinished_clone` and swept, never adopted blindly.
        """
        ...

    def ensure_vbd(self, spec: VbdSpec, *, plug: bool = False) -> None:
        """Refused("conflict") when another disk sits on that device.

        `plug`: into the VM as it runs, for which a paused one does not count: Busy("power_state").
        """
        ...

    def ensure_vif(self, spec: VifSpec, *, plug: bool = False) -> None:
        """Refused("conflict") when an interface of another MAC sits on that device. `plug` as for a disk.

        The one of that MAC moves to the network if it is on another, whether its VM runs or not (VIF.move).
        """
        ...

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

    def adopt_vdi(self, vdi: UUID, *, name: str, marker: Marker) -> VdiRecord:
        """Name and mark a disk of ours again, of which the pool only kept the bytes.

        Refused("not_ours") when it carries the marker of something else.
        """
        ...

    def scan_sr(self, sr: UUID) -> None:
        """Make the pool see again what is on `sr`, under the uuids that it had (XAPI SR.scan).

        May take as long as a storage operation.
        """
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

    def adopt_vm(self, vm: UUID, *, name: str, marker: Marker, boot: BootDirect) -> VmRecord:
        """Give a VM of ours another name and marker, and what it boots with from its next start on.

        Answers what it was like before, so that whoever repeats this knows; its guest is left out. The name
        comes last: what is found by it is adopted wholly. Refused("not_ours") when it carries no marker.
        """
        ...

    # running ------------------------------------------------------------------------------------
    def start_on(self, vm: UUID, host: UUID) -> TaskHandle: ...
    def clean_shutdown(self, vm: UUID) -> TaskHandle: ...
    def hard_shutdown(self, vm: UUID) -> TaskHandle: ...
    def clean_reboot(self, vm: UUID) -> TaskHandle: ...
    def hard_reboot(self, vm: UUID) -> TaskHandle: ...
    def pool_migrate(self, vm: UUID, host: UUID) -> TaskHandle: ...
    def pause(self, vm: UUID) -> None:
        """It stands still, in memory. Busy("power_state") when it does not run, or is paused already."""
        ...

    def unpause(self, vm: UUID) -> None:
        """It goes on. Busy("power_state") when it is not paused."""
        ...

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
