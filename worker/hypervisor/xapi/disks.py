"""Disks: found by name and marker, else made; filled and read back over HTTP.

VDI.create stores name and marker with the disk. VDI.clone copies both from its source first, so every
finished disk of ours also names itself (`hosting:vdi` = its own UUID); one that names another is a
clone whose maker died, and is adopted only when it already has the name we are about to give.
(xapi_vdi.ml; recorded: vdi_clone_snapshot.)
"""

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from worker.hypervisor.port import (
    MARKER_PREFIX,
    Busy,
    CloneSpec,
    Gone,
    HypervisorError,
    Marker,
    Refused,
    TaskHandle,
    Unreachable,
    UntranslatedFailure,
    VdiRecord,
    VdiSpec,
)
from worker.hypervisor.xapi import records
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.making import OPERATION, first_of, is_ours, remarked
from worker.hypervisor.xapi.rawhttp import Exchange, open_exchange
from worker.hypervisor.xapi.records import Raw, task_ref
from worker.hypervisor.xapi.tarstream import encoded
from worker.hypervisor.xapi.tasks import Made, TaskCalls

log = logging.getLogger(__name__)

OWN_UUID: Final = f"{MARKER_PREFIX}vdi"
STORAGE_WAIT: Final = timedelta(seconds=40)
"""An SR does one thing at a time; this is how long we queue for it before we say Busy."""

CANCEL_WAIT: Final = timedelta(seconds=5)
STEP_SECONDS: Final = 120.0  # one write of an import, while the SR is slow


class Disks:
    def __init__(self, calls: Calls, tasks: TaskCalls) -> None:
        self._calls = calls
        self._tasks = tasks

    # finding and making -------------------------------------------------------------------------

    def find_vdi(self, name: str, *, sr: UUID | None = None) -> VdiRecord | None:
        found = _finished(self._named(name, sr), {})
        return self._record(found[1]) if found is not None else None

    def ensure_vdi(self, spec: VdiSpec) -> VdiRecord:
        (made,) = self.ensure_vdis([spec])
        return made

    def clone_vdi(self, source: UUID, *, name: str, marker: Marker) -> VdiRecord:
        (made,) = self.ensure_vdis([CloneSpec(name, marker, source)])
        return made

    def ensure_vdis(self, specs: Sequence[VdiSpec | CloneSpec]) -> tuple[VdiRecord, ...]:
        """What one of them fails with is raised when the others are done: none is left half-made."""
        found = [self._find(spec) for spec in specs]
        missing = [spec for spec, disk in zip(specs, found, strict=True) if disk is None]
        made = iter(self._make(missing) if missing else ())
        return tuple(
            self._finish(*disk, spec) if disk is not None else next(made)
            for spec, disk in zip(specs, found, strict=True)
        )

    def _find(self, spec: VdiSpec | CloneSpec) -> tuple[str, Raw] | None:
        if isinstance(spec, VdiSpec):
            return _finished(self._named(spec.name, spec.sr), spec.marker)
        named = self._named(spec.name)
        return _finished(named, spec.marker) or _half_made(named)

    def _make(self, specs: Sequence[VdiSpec | CloneSpec]) -> list[VdiRecord]:
        begun = [self._begin(spec) for spec in specs]
        made = self._made([task for task in begun if not isinstance(task, Exception)])
        done: list[VdiRecord] = []
        failed: list[Exception] = []
        for spec, task in zip(specs, begun, strict=True):
            try:
                done.append(self._complete(spec, task, made))
            except (HypervisorError, UntranslatedFailure) as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return done

    def _begin(self, spec: VdiSpec | CloneSpec) -> TaskHandle | Exception:
        try:
            if isinstance(spec, CloneSpec):
                return self._calls.start("VDI.clone", self._calls.ref("VDI", spec.source), {})
            return self._calls.start("VDI.create", self._fields(spec))
        except (HypervisorError, UntranslatedFailure) as error:
            return error

    def _fields(self, spec: VdiSpec) -> dict[str, object]:
        return {
            "name_label": spec.name,
            "name_description": spec.description,
            "SR": self._calls.ref("SR", spec.sr),
            "virtual_size": str(spec.virtual_size_bytes),
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": dict(spec.marker),
        }

    def _made(self, tasks: Collection[TaskHandle]) -> Made:
        """What storage tasks made. Busy for those that the SR does not come to."""
        made = self._tasks.wait_for_refs(tasks, STORAGE_WAIT)
        late = [task for task, got in made.items() if _goes_on(got)]
        for task in late:
            self._tasks.cancel(task)
        ended = self._tasks.wait_for_refs(late, CANCEL_WAIT) if late else {}
        return {**made, **{task: _or_slow(got) for task, got in ended.items()}}

    def _complete(
        self, spec: VdiSpec | CloneSpec, begun: TaskHandle | Exception, made: Made
    ) -> VdiRecord:
        if isinstance(begun, Exception):
            return self._finish(*self._settle(spec, begun), spec)
        got = made[begun]
        if isinstance(got, Exception):
            raise got
        return self._finish(got, self._calls.record_of("VDI", got), spec)

    def _settle(self, spec: VdiSpec | CloneSpec, lost: Exception) -> tuple[str, Raw]:
        """The reply to Async.VDI.create was lost: see whether a disk of that name is under way."""
        if isinstance(spec, CloneSpec):
            raise lost
        if not isinstance(lost, Unreachable) or not lost.may_have_happened:
            raise lost
        deadline = time.monotonic() + CANCEL_WAIT.total_seconds()
        pending = self._calls.where("task", name__label="Async.VDI.create", status="pending")
        for ref in pending:
            left = timedelta(seconds=max(0.0, deadline - time.monotonic()))
            try:
                self._tasks.until_finished(records.task_handle(ref), left)
            except HypervisorError:  # another's, and gone, or slow: what counts is the look below
                continue
        settled = _finished(self._named(spec.name, spec.sr), spec.marker)
        if settled is None:
            raise lost
        return settled

    def _named(self, name: str, sr: UUID | None = None) -> dict[str, Raw]:
        """`sr` matters: an image has one disk of the same name on every SR."""
        here = self._calls.ref("SR", sr) if sr is not None else None
        return {
            ref: raw
            for ref, raw in self._calls.named("VDI", name).items()
            if not raw["is_a_snapshot"] and here in (None, raw["SR"])
        }

    def _finish(self, ref: str, raw: Raw, spec: VdiSpec | CloneSpec) -> VdiRecord:
        if isinstance(spec, CloneSpec):
            return self._renamed(ref, raw, spec.name, spec.marker)
        return self._naming_itself(ref, raw)

    def _renamed(self, ref: str, raw: Raw, name: str, marker: Marker) -> VdiRecord:
        """Name first, marker last: whatever is interrupted stays recognisable as unfinished."""
        own = {**marker, OWN_UUID: raw["uuid"]}
        changed = dict(raw)
        if raw["name_label"] != name:
            self._calls.call("VDI.set_name_label", ref, name)
            changed["name_label"] = name
        if _unfinished(raw) or not is_ours(records.marker_of(raw), own):
            changed["other_config"] = remarked(raw["other_config"], own)
            self._calls.call("VDI.set_other_config", ref, changed["other_config"])
        return self._record(changed)

    def _naming_itself(self, ref: str, raw: Raw) -> VdiRecord:
        if OWN_UUID in raw["other_config"]:
            return self._record(raw)
        self._calls.call("VDI.add_to_other_config", ref, OWN_UUID, raw["uuid"])
        return self._record({**raw, "other_config": {**raw["other_config"], OWN_UUID: raw["uuid"]}})

    def _record(self, raw: Raw) -> VdiRecord:
        return records.vdi_record(raw, self._calls.resolve)

    # changing and removing ----------------------------------------------------------------------

    def adopt_vdi(self, vdi: UUID, *, name: str, marker: Marker) -> VdiRecord:
        ref, raw = self._calls.ref("VDI", vdi), self._calls.record("VDI", vdi)
        theirs, own = records.marker_of(raw), {**marker, OWN_UUID: str(vdi)}
        if theirs and not is_ours(theirs, own):
            raise Refused("not_ours")
        if own.items() <= theirs.items() and raw["name_label"] == name:
            return self._record(raw)
        self._calls.call("VDI.set_name_label", ref, name)
        config = remarked(raw["other_config"], own)
        self._calls.call("VDI.set_other_config", ref, config)
        return self._record({**raw, "name_label": name, "other_config": config})

    def scan_sr(self, sr: UUID) -> None:
        self._tasks.wait(self._calls.start("SR.scan", self._calls.ref("SR", sr)), STORAGE_WAIT)

    def set_vdi_marker(self, vdi: UUID, marker: Marker) -> None:
        ref = self._calls.ref("VDI", vdi)
        config = self._calls.read("VDI.get_other_config", ref)
        own = {**marker, OWN_UUID: str(vdi)}
        self._calls.call("VDI.set_other_config", ref, remarked(config, own))

    def resize_vdi(self, vdi: UUID, virtual_size_bytes: int) -> None:
        ref = self._calls.ref("VDI", vdi)
        task = self._calls.start("VDI.resize", ref, str(virtual_size_bytes))
        self._tasks.wait(task, STORAGE_WAIT)

    def destroy_vdi(self, vdi: UUID) -> None:
        try:
            raw = self._calls.record("VDI", vdi)
        except Gone:
            return
        if not records.marker_of(raw):
            raise Refused("not_ours")
        try:
            task = self._calls.start("VDI.destroy", self._calls.ref("VDI", vdi))
            self._tasks.wait(task, STORAGE_WAIT)
        except Gone:  # the disk, or the task's record: then it is looked for once more
            self._assert_gone(vdi)

    def _assert_gone(self, vdi: UUID) -> None:
        try:
            self._calls.record("VDI", vdi)
        except Gone:
            return
        raise Busy("in_progress", may_have_happened=True)

    def clear_locks(self, vdi: UUID, host: UUID) -> None:
        """Keys as left by a dead host (sm resetvdis.py): host_<ref>, paused, activating."""
        ref, host_ref = self._calls.ref("VDI", vdi), self._calls.ref("host", host)
        config = self._calls.read("VDI.get_sm_config", ref)
        for key in {f"host_{host_ref}", *records.LOCK_KEYS} & config.keys():
            self._calls.call("VDI.remove_from_sm_config", ref, key)

    # filling and reading back -------------------------------------------------------------------

    def import_vdi(
        self, vdi: UUID, data: Iterable[tuple[int, bytes]], *, timeout: timedelta
    ) -> None:
        deadline = time.monotonic() + timeout.total_seconds()
        raw = self._calls.record("VDI", vdi)
        task = records.task_handle(
            str(self._calls.call("task.create", f"Async.VDI.import {vdi}", "Bulkhead import"))
        )
        operation = records.marker_of(raw).get(OPERATION)
        if operation is not None:
            self._calls.call("task.add_to_other_config", task_ref(task), OPERATION, operation)
        query = {"task_id": task_ref(task), "vdi": str(vdi), "format": "tar"}
        exchange = self._exchange("PUT", "/import_raw_vdi", query, STEP_SECONDS)
        try:
            _stream(exchange, encoded(data, int(raw["virtual_size"])), deadline)
        except BaseException:
            self._abandoned(task)
            raise
        self._verified(task, deadline)

    def _abandoned(self, task: TaskHandle) -> None:
        """The source of the data broke: let the pool let go of the disk before that is said."""
        try:
            self._tasks.until_finished(task, CANCEL_WAIT)
            self._tasks.forget(task)
        except HypervisorError as error:
            log.warning("abandoned import not seen to end: %r", error)

    def _verified(self, task: TaskHandle, deadline: float) -> None:
        """The server said 200 before it read anything: what counts is the task.

        Its success means that every block up to the disk's size came and had the right checksum.
        """
        left = timedelta(seconds=max(1.0, deadline - time.monotonic()))
        try:
            self._tasks.wait(task, left)
        except Unreachable as unknown:
            if unknown.reason == "task_still_running":
                self._tasks.cancel(task)
            raise
        except (HypervisorError, UntranslatedFailure) as error:
            raise Refused("import_failed", may_have_happened=True) from error

    def export_vdi(self, vdi: UUID, *, timeout: timedelta) -> Iterator[bytes]:
        raw = self._calls.record("VDI", vdi)
        seconds = timeout.total_seconds()
        query = {"vdi": str(vdi), "format": "raw"}
        exchange = self._exchange("GET", "/export_raw_vdi", query, seconds)
        exchange.allow(seconds)
        return _pieces(exchange, int(raw["virtual_size"]))

    def _exchange(
        self, method: str, path: str, query: Mapping[str, str], seconds: float
    ) -> Exchange:
        """With the master; when it has not the disk's SR plugged it sends us on to a host that has."""
        session = self._calls.session
        return open_exchange(session, session.master(), method, path, query, seconds)


def _goes_on(got: str | Exception) -> bool:
    return isinstance(got, Unreachable) and got.reason == "task_still_running"


def _or_slow(got: str | Exception) -> str | Exception:
    """What came of a task that was told to end, as the answer of a slow SR."""
    if not isinstance(got, Unreachable | Busy):
        return got
    slow = Busy("storage_slow", may_have_happened=True)
    slow.__cause__ = got
    return slow


def _unfinished(raw: Raw) -> bool:
    own: Mapping[str, str] = raw["other_config"]
    return OWN_UUID in own and own[OWN_UUID] != raw["uuid"]


def _finished(named: Mapping[str, Raw], wanted: Marker) -> tuple[str, Raw] | None:
    return first_of({r: raw for r, raw in named.items() if not _unfinished(raw)}, wanted)


def _half_made(named: Mapping[str, Raw]) -> tuple[str, Raw] | None:
    """A clone that got our name but not yet our marker: nobody else would name it so."""
    half = ((ref, raw) for ref, raw in named.items() if _unfinished(raw))
    return min(half, key=lambda item: item[0], default=None)


def _stream(exchange: Exchange, stream: Iterable[bytes], deadline: float) -> None:
    """Send it all and wait for the other end to close. Why that failed, the task knows better."""
    try:
        for piece in stream:
            exchange.allow(max(0.1, min(STEP_SECONDS, deadline - time.monotonic())))
            exchange.sendall(piece)
        while exchange.recv():
            continue
    except OSError as error:
        log.warning("import cut short: %r", error)
    finally:
        exchange.close()


def _pieces(exchange: Exchange, size: int) -> Iterator[bytes]:
    """A body of 200 may end early, or hold an error in its middle: only the length tells."""
    received = 0
    try:
        while piece := exchange.recv():
            received += len(piece)
            yield piece
    except OSError as error:
        raise Unreachable("connection_lost") from error
    finally:
        exchange.close()
    if received != size:
        raise Unreachable("export_incomplete")
