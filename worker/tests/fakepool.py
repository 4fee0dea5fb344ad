"""A pool in memory behind the port: long calls take a few looks, hosts die, and a VM that would run twice
fails the test at once.

Making is not idempotent where the real one is not found by name, so that a careless step is found out. For
hundreds of short runs; what XAPI really does is held by the contract tests against the lab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hosting import labels
from worker.hypervisor.port import (
    Busy,
    CloneSpec,
    CurrentOperation,
    Gone,
    GuestMetrics,
    HostRecord,
    HypervisorError,
    Marker,
    NoRoom,
    PifRecord,
    PoolRecord,
    Refused,
    TaskHandle,
    TaskRecord,
    Unreachable,
    VbdRecord,
    VbdSpec,
    VdiRecord,
    VdiSpec,
    VmRecord,
    VmSpec,
)
from worker.tests.fakenetworks import FakeNetworks
from worker.tests.fakewarm import FakeWarm

K = TypeVar("K")
V = TypeVar("V")
LOOKS = 2
_OPERATIONS = {
    "Running": frozenset({"clean_shutdown", "hard_shutdown", "pool_migrate"}),
    "Halted": frozenset({"start_on", "destroy"}),
    "Paused": frozenset({"hard_shutdown", "unpause"}),
}


@dataclass
class _Task:
    vm: UUID
    operation: str
    act: Callable[[], None]
    looks: int = LOOKS
    record: TaskRecord | None = None


@dataclass
class FakePool(FakeWarm, FakeNetworks):
    """`dead`: hosts whose machine has no power, or that nobody can reach (`silent`) though they run."""

    hosts_by_uuid: dict[UUID, HostRecord] = field(default_factory=dict)
    master: UUID | None = None
    vdis_by_uuid: dict[UUID, VdiRecord] = field(default_factory=dict)
    contents: dict[UUID, bytes] = field(default_factory=dict)
    tasks: dict[TaskHandle, _Task] = field(default_factory=dict)
    domains: dict[UUID, set[UUID]] = field(default_factory=dict)
    silent: set[UUID] = field(default_factory=set)
    off: set[UUID] = field(default_factory=set)
    full: set[UUID] = field(default_factory=set)
    starts: list[UUID] = field(default_factory=list)
    moves: list[tuple[UUID, UUID]] = field(default_factory=list)
    deaf: bool = False  # guests do not end when asked
    elected: UUID | None = None

    # hosts --------------------------------------------------------------------------------------

    def add_host(self, uuid: UUID, *, name: str = "xen") -> None:
        self.hosts_by_uuid[uuid] = HostRecord(
            uuid, name, "192.0.2.1", True, True, 2**34, 2**34, heartbeat_at=_now()
        )
        self.domains[uuid] = set()
        self.master = self.master or uuid

    def fall_silent(self, host: UUID) -> None:
        """It may run or not: nobody hears of it."""
        self.silent.add(host)
        old = _now() - timedelta(minutes=5)
        self.hosts_by_uuid[host] = replace(self.hosts_by_uuid[host], heartbeat_at=old)

    def cut_power(self, host: UUID) -> None:
        self.off.add(host)
        self.domains[host] = set()
        self.fall_silent(host)

    def pool(self) -> PoolRecord:
        self._reach_master()
        return PoolRecord(uuid4(), "pool", self.master)

    def hosts(self) -> tuple[HostRecord, ...]:
        self._reach_master()
        return tuple(self.hosts_by_uuid.values())

    def host(self, host: UUID) -> HostRecord:
        self._reach_master()
        mine = [task for task in self.tasks.values() if task.vm == host]
        for task in mine:
            self._look(task)
        running = frozenset(task.operation for task in mine if task.record is None)
        return replace(_of(self.hosts_by_uuid, host), current_operations=running)

    def host_answers(self, host: UUID, timeout: timedelta) -> bool:
        return host not in self.silent

    def disable_host(self, host: UUID) -> None:
        self._set_host(host, enabled=False)

    def enable_host(self, host: UUID) -> None:
        self._set_host(host, enabled=True)

    def declare_dead(self, host: UUID) -> TaskHandle:
        self._reach_master()
        assert host in self.off, "declared dead while it has power"
        return self._task(host, "declare_dead", lambda: self._bury(host))

    def _bury(self, host: UUID) -> None:
        self._set_host(host, enabled=False, live=False)
        for vm in list(self.vms_by_uuid.values()):
            if vm.resident_on == host:
                self._set_vm(vm.uuid, power_state="Halted", resident_on=None, guest=None)

    def emergency_transition_to_master(self, host: UUID) -> None:
        assert self.master in self.off, "two masters"
        self.elected = host

    def recover_slaves(self) -> tuple[UUID, ...]:
        if self.elected is not None:
            self.master, self.elected = self.elected, None
        self._reach_master()
        return tuple(set(self.hosts_by_uuid) - self.silent - {self.master})

    def _reach_master(self) -> None:
        if self.master in self.silent:
            raise Unreachable("timeout")

    def _set_host(self, host: UUID, **changes: Any) -> None:
        self.hosts_by_uuid[host] = replace(_of(self.hosts_by_uuid, host), **changes)

    # VMs ----------------------------------------------------------------------------------------

    def vm(self, vm: UUID) -> VmRecord:
        self._reach_master()
        for task in list(self.tasks.values()):
            if task.vm == vm:
                self._look(task)
        found = _of(self.vms_by_uuid, vm)
        running = tuple(
            CurrentOperation(task.operation, handle)
            for handle, task in self.tasks.items()
            if task.vm == vm and task.record is None
        )
        return replace(found, current_operations=running)

    def vms(self) -> tuple[VmRecord, ...]:
        return tuple(self.vm(vm) for vm in list(self.vms_by_uuid))

    def find_vm(self, name: str) -> VmRecord | None:
        self._reach_master()
        named = [vm.uuid for vm in self.vms_by_uuid.values() if vm.name == name and vm.marker]
        return self.vm(min(named)) if named else None

    def ensure_vm(self, spec: VmSpec) -> VmRecord:
        found = self.find_vm(spec.name)
        if found is None:
            uuid = uuid4()
            self.vms_by_uuid[uuid] = VmRecord(
                uuid,
                spec.name,
                "Halted",
                memory_bytes=spec.memory_bytes,
                vcpus=spec.vcpus,
                marker=dict(spec.marker),
                allowed_operations=_OPERATIONS["Halted"],
            )
            self.note_boot(uuid, spec.boot)
            found = self.vm(uuid)
        return found

    def ensure_vbd(self, spec: VbdSpec, *, plug: bool = False) -> None:
        vbd = self._vbd(spec)
        self.vbds_by_uuid[vbd.uuid] = vbd
        if plug:
            self.plug_vbd(vbd)

    def _vbd(self, spec: VbdSpec) -> VbdRecord:
        """The one that is there, or another."""
        for vbd in self.vbds_by_uuid.values():
            if (vbd.vm, vbd.device) == (spec.vm, spec.device):
                if vbd.vdi != spec.vdi:
                    raise Refused("conflict")
                return vbd
        _of(self.vms_by_uuid, spec.vm)
        _of(self.vdis_by_uuid, spec.vdi)
        return VbdRecord(uuid4(), spec.vm, spec.vdi, spec.device, bootable=spec.bootable)

    def destroy_vm(self, vm: UUID) -> None:
        found = self.vms_by_uuid.pop(vm, None)
        if found is None:
            return
        assert found.marker, "not ours"
        for domains in self.domains.values():
            domains.discard(vm)
        gone = [vbd.uuid for vbd in self.vbds_by_uuid.values() if vbd.vm == vm]
        for vbd in gone:
            del self.vbds_by_uuid[vbd]
        self.drop_vifs(vm)

    def assert_can_boot_here(self, vm: UUID, host: UUID) -> None:
        if host in self.full:
            raise NoRoom("memory")

    def start_on(self, vm: UUID, host: UUID) -> TaskHandle:
        self._must_be(vm, "Halted")
        return self._task(vm, "start_on", lambda: self._start(vm, host))

    def _start(self, vm: UUID, host: UUID) -> None:
        if host in self.full:
            raise NoRoom("memory")
        if host in self.silent or not self.hosts_by_uuid[host].enabled:
            raise NoRoom("host_disabled")
        self.must_reach_networks(vm, host)
        self._make_domain(vm, host)
        self.starts.append(vm)
        guest = GuestMetrics(pv_drivers_detected=True)
        told = self.booted(vm)
        self._set_vm(vm, power_state="Running", resident_on=host, guest=guest, vm_data=told)

    def _make_domain(self, vm: UUID, host: UUID) -> None:
        elsewhere = [one for one, domains in self.domains.items() if vm in domains]
        assert not elsewhere, f"{vm} would run twice: on {host}, and on {elsewhere}"
        self.domains[host].add(vm)

    def clean_shutdown(self, vm: UUID) -> TaskHandle:
        self._must_be(vm, "Running")
        return self._task(vm, "clean_shutdown", lambda: None if self.deaf else self.end(vm))

    def hard_shutdown(self, vm: UUID) -> TaskHandle:
        return self._task(vm, "hard_shutdown", lambda: self.end(vm))

    def end(self, vm: UUID) -> None:
        """The guest ends, by itself or not."""
        for domains in self.domains.values():
            domains.discard(vm)
        self.blank.discard(vm)
        self.attach(vm, False)
        self._set_vm(vm, power_state="Halted", resident_on=None, guest=None)

    def pool_migrate(self, vm: UUID, host: UUID) -> TaskHandle:
        self._must_be(vm, "Running")
        return self._task(vm, "pool_migrate", lambda: self._move(vm, host))

    def _move(self, vm: UUID, host: UUID) -> None:
        if host in self.full or host in self.silent:
            raise NoRoom("migration_failed")
        self.must_reach_networks(vm, host)
        source = self.vms_by_uuid[vm].resident_on
        assert source is not None
        self.domains[source].discard(vm)
        self._make_domain(vm, host)
        self.moves.append((vm, host))
        self._set_vm(vm, resident_on=host)

    def _must_be(self, vm: UUID, power_state: str) -> None:
        self._reach_master()
        super()._must_be(vm, power_state)

    def _set_vm(self, vm: UUID, **changes: Any) -> None:
        changed = replace(_of(self.vms_by_uuid, vm), **changes)
        allowed = _OPERATIONS[changed.power_state]
        self.vms_by_uuid[vm] = replace(changed, allowed_operations=allowed)

    # networks -----------------------------------------------------------------------------------

    def ensure_vlan(self, network: UUID, *, device: str, tag: int) -> tuple[PifRecord, ...]:
        live = [host.uuid for host in self.hosts_by_uuid.values() if host.live]
        self.extend_vlan(network, device, tag, live)
        return self.pifs_of(network)

    # tasks --------------------------------------------------------------------------------------

    def _task(self, about: UUID, operation: str, act: Callable[[], None]) -> TaskHandle:
        assert not any(
            task.vm == about and task.operation == operation and task.record is None
            for task in self.tasks.values()
        ), f"{operation} was asked for twice"
        handle = TaskHandle(f"task-{len(self.tasks)}-{uuid4()}")
        self.tasks[handle] = _Task(about, operation, act)
        return handle

    def _look(self, task: _Task) -> None:
        task.looks -= 1
        if task.looks > 0 or task.record is not None:
            return
        error: HypervisorError | None = None
        try:
            task.act()
        except HypervisorError as raised:
            error = raised
        task.record = TaskRecord(
            uuid4(),
            TaskHandle(""),
            task.operation,
            "failure" if error else "success",
            error=error,
        )

    def poll(self, task: TaskHandle) -> TaskRecord:
        self._reach_master()
        found = _of(self.tasks, task)
        self._look(found)
        return found.record or TaskRecord(uuid4(), task, found.operation, "pending")

    def wait(self, task: TaskHandle, timeout: timedelta) -> TaskRecord:
        """Looks as often as fits into the time: once for each quarter of a second."""
        for _ in range(int(timeout / timedelta(seconds=0.25))):
            record = self.poll(task)
            if record.is_finished:
                self.forget(task)
                if record.error is not None:
                    raise record.error
                return record
        raise Unreachable("task_still_running", may_have_happened=True)

    def forget(self, task: TaskHandle) -> None:
        self.tasks.pop(task, None)

    # disks --------------------------------------------------------------------------------------

    def add_golden(self, digest: str, sr: UUID) -> VdiRecord:
        return self._add_vdi(f"golden-{digest}", {labels.IMAGE: digest}, sr, 2**20)

    def vdis(self) -> tuple[VdiRecord, ...]:
        return tuple(self.vdis_by_uuid.values())

    def find_vdi(self, name: str, *, sr: UUID | None = None) -> VdiRecord | None:
        for vdi in self.vdis_by_uuid.values():
            if vdi.name == name and sr in (None, vdi.sr) and not vdi.is_unfinished_clone:
                return vdi
        return None

    def ensure_vdi(self, spec: VdiSpec) -> VdiRecord:
        found = self.find_vdi(spec.name, sr=spec.sr) or self._add_vdi(
            spec.name, dict(spec.marker), spec.sr, spec.virtual_size_bytes
        )
        if spec.content:
            self.import_vdi(found.uuid, [(0, spec.content)], timeout=timedelta(seconds=1))
        return found

    def ensure_vdis(self, specs: Sequence[VdiSpec | CloneSpec]) -> tuple[VdiRecord, ...]:
        return tuple(
            self.clone_vdi(spec.source, name=spec.name, marker=spec.marker)
            if isinstance(spec, CloneSpec)
            else self.ensure_vdi(spec)
            for spec in specs
        )

    def clone_vdi(self, source: UUID, *, name: str, marker: Marker) -> VdiRecord:
        found = self.find_vdi(name)
        if found is not None:
            return found
        of = _of(self.vdis_by_uuid, source)
        assert of.sr is not None
        return self._add_vdi(name, dict(marker), of.sr, of.virtual_size_bytes)

    def adopt_vdi(self, vdi: UUID, *, name: str, marker: Marker) -> VdiRecord:
        own = {**marker, labels.VDI: str(vdi)}
        self.vdis_by_uuid[vdi] = replace(_of(self.vdis_by_uuid, vdi), name=name, marker=own)
        return self.vdis_by_uuid[vdi]

    def scan_sr(self, sr: UUID) -> None:
        self._reach_master()

    def set_vdi_marker(self, vdi: UUID, marker: Marker) -> None:
        own = {**marker, labels.VDI: str(vdi)}
        self.vdis_by_uuid[vdi] = replace(_of(self.vdis_by_uuid, vdi), marker=own)

    def import_vdi(
        self, vdi: UUID, data: Iterable[tuple[int, bytes]], *, timeout: timedelta
    ) -> None:
        _of(self.vdis_by_uuid, vdi)
        assert not any(vbd.vdi == vdi and self._runs(vbd.vm) for vbd in self.vbds_by_uuid.values())
        self.contents[vdi] = b"".join(piece for _, piece in data)

    def destroy_vdi(self, vdi: UUID) -> None:
        if any(vbd.vdi == vdi for vbd in self.vbds_by_uuid.values()):
            raise Busy("disk_in_use")
        self.vdis_by_uuid.pop(vdi, None)

    def clear_locks(self, vdi: UUID, host: UUID) -> None:
        assert host in self.off, "locks cleared of a host that may run"
        record = _of(self.vdis_by_uuid, vdi)
        left = tuple(one for one in record.locked_by if one != host)
        self.vdis_by_uuid[vdi] = replace(record, locked_by=left)

    def _runs(self, vm: UUID | None) -> bool:
        """One that stands still counts, for it goes on."""
        return vm is not None and self.vms_by_uuid[vm].power_state in ("Running", "Paused")

    def _add_vdi(self, name: str, marker: Mapping[str, str], sr: UUID, size: int) -> VdiRecord:
        uuid = uuid4()
        own = {**marker, labels.VDI: str(uuid)}
        self.vdis_by_uuid[uuid] = VdiRecord(uuid, name, sr, size, marker=own)
        return self.vdis_by_uuid[uuid]

    # what tests ask -----------------------------------------------------------------------------

    @property
    def running(self) -> dict[str, UUID]:
        """Name → host, by the domains that really exist."""
        return {
            self.vms_by_uuid[vm].name: host
            for host, domains in self.domains.items()
            for vm in domains
        }

    def disks(self) -> set[str]:
        """Names, golden ones left out."""
        return {vdi.name for vdi in self.vdis_by_uuid.values() if "golden" not in vdi.name}


def _now() -> datetime:
    return datetime.now(UTC)


def _of(rows: Mapping[K, V], key: K) -> V:
    try:
        return rows[key]
    except KeyError:
        raise Gone("gone") from None
