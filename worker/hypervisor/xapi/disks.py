"""Disks: found by name and marker, else made.

VDI.create stores name and marker with the disk. VDI.clone copies both from its source first, so every
finished disk of ours also names itself (`hosting:vdi` = its own UUID); one that names another is a
clone whose maker died, and is adopted only when it already has the name we are about to give.
(xapi_vdi.ml; recorded: vdi_clone_snapshot.)
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
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
from worker.hypervisor.xapi.making import first_of, is_ours, remarked
from worker.hypervisor.xapi.records import Raw
from worker.hypervisor.xapi.tasks import TaskCalls
from worker.hypervisor.xapi.transfers import CANCEL_WAIT, Transfers, Upload

OWN_UUID: Final = f"{MARKER_PREFIX}vdi"
STORAGE_WAIT: Final = timedelta(seconds=40)
"""An SR does one thing at a time; this is how long we queue for it before we say Busy."""

FILL_WAIT: Final = timedelta(seconds=30)
"""For what a disk starts with, which is small."""


class Disks:
    def __init__(self, calls: Calls, tasks: TaskCalls, transfers: Transfers) -> None:
        self._calls = calls
        self._tasks = tasks
        self._transfers = transfers

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
        # Filling takes longest: what is to be filled comes first, and is filled meanwhile.
        order = sorted(range(len(specs)), key=lambda n: not _content(specs[n]))
        there: dict[int, tuple[str, Raw]] = {}
        begun: dict[int, TaskHandle | Exception] = {}
        for n in order:
            try:
                disk = self._find(specs[n])
            except (HypervisorError, UntranslatedFailure) as error:
                begun[n] = error
                continue
            if disk is None:
                begun[n] = self._begin(specs[n])
            else:
                there[n] = disk
        made: dict[int, VdiRecord] = {}
        uploads: list[Upload] = []
        failed: list[Exception] = []
        for n, got in chain(there.items(), self._as_made(begun)):
            with _noting(failed):
                ref, raw = self._looked_at(specs[n], got)
                if content := _content(specs[n]):
                    uploads.append(self._transfers.begin(raw, [(0, content)], timeout=FILL_WAIT))
                made[n] = self._finish(ref, raw, specs[n])
        for upload in uploads:
            with _noting(failed):
                self._transfers.finish(upload)
        if failed:
            raise failed[0]
        return tuple(made[n] for n in range(len(specs)))

    def _find(self, spec: VdiSpec | CloneSpec) -> tuple[str, Raw] | None:
        if isinstance(spec, VdiSpec):
            return _finished(self._named(spec.name, spec.sr), spec.marker)
        named = self._named(spec.name)
        return _finished(named, spec.marker) or _half_made(named)

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

    def _as_made(
        self, begun: Mapping[int, TaskHandle | Exception]
    ) -> Iterator[tuple[int, str | Exception]]:
        """What storage tasks made, each when it has. Busy for those that the SR does not come to."""
        numbers = {task: n for n, task in begun.items() if not isinstance(task, Exception)}
        yield from ((n, task) for n, task in begun.items() if isinstance(task, Exception))
        late: list[TaskHandle] = []
        for task, got in self._tasks.refs_as_made(list(numbers), STORAGE_WAIT):
            if _goes_on(got):
                late.append(task)
            else:
                yield numbers[task], got
        for task in late:
            self._tasks.cancel(task)
        for task, got in self._tasks.refs_as_made(late, CANCEL_WAIT):
            yield numbers[task], _or_slow(got)

    def _looked_at(
        self, spec: VdiSpec | CloneSpec, got: tuple[str, Raw] | str | Exception
    ) -> tuple[str, Raw]:
        """The disk, by what came of looking for it or of making it."""
        if isinstance(got, tuple):
            return got
        if isinstance(got, Exception):
            return self._settle(spec, got)
        return got, self._calls.record_of("VDI", got)

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


@contextmanager
def _noting(failed: list[Exception]) -> Iterator[None]:
    try:
        yield
    except (HypervisorError, UntranslatedFailure) as error:
        failed.append(error)


def _content(spec: VdiSpec | CloneSpec) -> bytes:
    return spec.content if isinstance(spec, VdiSpec) else b""


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
