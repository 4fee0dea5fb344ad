"""The watcher: a mirror of one pool by `event.from`, which is a diff and not a log.

What it guards against (xapi_event.ml, db_cache_types.ml; recorded: event_first, event_merge):

* Deletions are remembered only for the last 256 to 512 rows of a table and then forgotten silently.
  The sign is `valid_ref_counts`: a class whose count differs from ours twice in a row is read again.
  Once is no sign: snapshots are taken after the token's instant.
* A token is worth nothing at another master, after a restart that lost the newest generations, and of
  course when it does not parse: start over with "". We do so whenever the session changed.
* Objects arrive in any order, so references are resolved late: a record that names an unknown object
  is given out with None there, and again when that object arrives.
* Applying an event twice is harmless; a snapshot that changes nothing we read is not given out.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from worker.hypervisor.port import Changes, Record, Removed, UntranslatedFailure
from worker.hypervisor.xapi import records
from worker.hypervisor.xapi.records import Raw

log = logging.getLogger(__name__)

CLASSES: Final[Mapping[str, str]] = {
    "pool": "pool",
    "host": "host",
    "host_metrics": "host_metrics",
    "sr": "SR",
    "pbd": "PBD",
    "vm": "VM",
    "vm_metrics": "VM_metrics",
    "vm_guest_metrics": "VM_guest_metrics",
    "vdi": "VDI",
    "vbd": "VBD",
    "vif": "VIF",
    "network": "network",
    "pif": "PIF",
    "task": "task",
    "message": "message",
}
"""Followed classes: name in events → name in calls."""

UNCOUNTED: Final = frozenset({"message"})  # not rows of the database: always counted 0
SUSPICION_SECONDS: Final = 1.0
SLACK_SECONDS: Final = 20.0
MANY_WAITING: Final = 1000

# Records of these classes are part of their owner's.
METRICS: Final = {"host_metrics": "host", "vm_metrics": "vm", "vm_guest_metrics": "vm"}

_SIMPLE: Final[Mapping[str, Callable[[Raw, records.Resolver], Record]]] = {
    "pool": records.pool_record,
    "sr": records.sr_record,
    "pbd": records.pbd_record,
    "vdi": records.vdi_record,
    "vbd": records.vbd_record,
    "vif": records.vif_record,
    "network": records.network_record,
    "pif": records.pif_record,
    "message": records.message_record,
}

Key = tuple[str, str]  # (class as events name it, reference)


class Mirror:
    """What we hold of the pool: trimmed snapshots by class and reference. No input or output."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in CLASSES}
        self._class_of: dict[str, str] = {}
        self._owner: dict[str, Key] = {}  # metrics reference → whose they are
        self._waiting: dict[str, set[Key]] = {}  # unknown reference → who names it
        self._touched: dict[Key, None] = {}
        self._removed: dict[Removed, None] = {}

    def put(self, kind: str, ref: str, snapshot: Raw) -> None:
        row = records.trimmed(kind, snapshot)
        if self.rows[kind].get(ref) == row:
            return
        self.rows[kind][ref] = row
        self._class_of[ref] = kind
        self._own(kind, ref, row)
        self._touch(kind, ref)
        for waiting in self._waiting.pop(ref, ()):
            self._touch(*waiting)

    def remove(self, kind: str, ref: str) -> None:
        row = self.rows[kind].pop(ref, None)
        if row is None:
            return
        self._class_of.pop(ref, None)
        self._touched.pop((kind, ref), None)
        if kind in METRICS:
            owner = self._owner.pop(ref, None)
            if owner is not None:
                self._touch(*owner)
        else:
            self._removed[Removed(kind, UUID(row["uuid"]))] = None

    def replace(self, kind: str, snapshots: Mapping[str, Raw]) -> None:
        """The class is exactly this."""
        for ref in [ref for ref in self.rows[kind] if ref not in snapshots]:
            self.remove(kind, ref)
        for ref, snapshot in snapshots.items():
            self.put(kind, ref, snapshot)

    def take(self) -> tuple[tuple[Record, ...], tuple[Removed, ...]]:
        """What changed since the last time."""
        made = [self._record(kind, ref) for kind, ref in self._touched if ref in self.rows[kind]]
        removed = tuple(self._removed)
        self._touched, self._removed = {}, {}
        return tuple(made), removed

    def forget_lost_waiters(self) -> None:
        """Drop who waits for an object that never came and is gone itself."""
        if len(self._waiting) < MANY_WAITING:
            return
        alive = {
            ref: {(kind, waiter) for kind, waiter in keys if waiter in self.rows[kind]}
            for ref, keys in self._waiting.items()
        }
        self._waiting = {ref: keys for ref, keys in alive.items() if keys}

    def master(self) -> UUID | None:
        for row in self.rows["pool"].values():
            return self.uuid_of("host", row["master"])
        return None

    def uuid_of(self, kind: str, ref: str) -> UUID | None:
        row = self.rows.get(self._class_of.get(ref, kind), {}).get(ref)
        return UUID(row["uuid"]) if row is not None else None

    def _own(self, kind: str, ref: str, row: Raw) -> None:
        for field in ("metrics", "guest_metrics"):
            if field in row and not records.is_null(row[field]):
                self._owner[row[field]] = (kind, ref)

    def _touch(self, kind: str, ref: str) -> None:
        if kind not in METRICS:
            self._touched[(kind, ref)] = None
        elif ref in self._owner:
            self._touched[self._owner[ref]] = None

    def _record(self, kind: str, ref: str) -> Record:
        row = self.rows[kind][ref]

        def resolve(target: str, target_ref: str) -> UUID | None:
            if records.is_null(target_ref):
                return None
            uuid = self.uuid_of(target, target_ref)
            if uuid is None:
                self._waiting.setdefault(target_ref, set()).add((kind, ref))
            return uuid

        if kind == "host":
            return records.host_record(row, self._part("host_metrics", row["metrics"]), resolve)
        if kind == "vm":
            guest = self.rows["vm_guest_metrics"].get(row["guest_metrics"])
            metrics = self._part("vm_metrics", row["metrics"])
            return records.vm_record(row, metrics, guest, resolve)
        if kind == "task":
            return records.task_record(ref, row, resolve)
        return _SIMPLE[kind](row, resolve)

    def _part(self, kind: str, ref: str) -> Raw:
        return self.rows[kind].get(ref, {})


class EventSource(Protocol):
    """What a watcher needs of the session."""

    @property
    def epoch(self) -> int: ...
    def connect(self) -> int: ...
    def long_poll(self, method: str, *args: object, timeout: float) -> Any: ...
    def read(self, method: str, *args: object, timeout: float | None = None) -> Any: ...


class XapiWatcher:
    """See `port.Watcher`. One per pool is plenty: event.from is among xapi's dearest calls."""

    def __init__(self, session: EventSource) -> None:
        self._session = session
        self._mirror = Mirror()
        self._token = ""
        self._epoch = -1
        self._differing: dict[str, int] = {}  # class → count − ours, seen last time
        self._settled: dict[str, int] = {}  # class → difference that reading again did not mend
        self.reloads = 0
        self.resyncs = 0

    def changes(self, timeout: timedelta) -> Changes:
        if not self._token or self._epoch != self._session.epoch:
            return self._start_over()
        try:
            answer = self._ask(self._token, self._patience(timeout))
        except UntranslatedFailure as failure:
            if failure.code != "EVENT_FROM_TOKEN_PARSE_FAILURE":
                raise
            return self._start_over()
        if self._epoch != self._session.epoch or _goes_back(answer["token"], self._token):
            return self._start_over()
        before = self._mirror.master()
        self._apply(answer)
        self._check(answer["valid_ref_counts"])
        if self._mirror.master() != before:
            return self._start_over()
        return self._said(full=False)

    def close(self) -> None:
        self._mirror, self._token = Mirror(), ""

    def _start_over(self) -> Changes:
        self._token = ""
        epoch = self._session.connect()  # a session lost from here on makes us start over again
        answer = self._ask("", SUSPICION_SECONDS)
        self._mirror = Mirror()
        self._differing, self._settled = {}, {}
        self._apply(answer)
        self._epoch = epoch
        self.resyncs += 1
        log.info("watcher started over")
        return self._said(full=True)

    def _ask(self, token: str, seconds: float) -> Any:
        return self._session.long_poll(
            "event.from", list(CLASSES), token, float(seconds), timeout=seconds + SLACK_SECONDS
        )

    def _patience(self, timeout: timedelta) -> float:
        seconds = max(0.0, timeout.total_seconds())
        return min(seconds, SUSPICION_SECONDS) if self._differing else seconds

    def _apply(self, answer: Any) -> None:
        for event in answer["events"]:
            kind = str(event["class"]).lower()
            if kind not in CLASSES:
                continue
            snapshot = event.get("snapshot")
            if event["operation"] == "del" or not snapshot:
                self._mirror.remove(kind, event["ref"])
            else:
                self._mirror.put(kind, event["ref"], snapshot)
        self._token = answer["token"]

    def _check(self, counts: Mapping[str, Any]) -> None:
        """Believe a difference only when it is seen twice in a row."""
        differing = dict(self._differences(counts))
        again = [kind for kind in differing if kind in self._differing]
        for kind in again:
            self._reload(kind)
        self._differing = {k: d for k, d in differing.items() if k not in again}
        for kind in again:
            left = int(counts[kind]) - len(self._mirror.rows[kind])
            if left:
                # Read just now and yet not as many: later rows, or a count that means something else.
                self._settled[kind] = left

    def _differences(self, counts: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        for kind, rows in self._mirror.rows.items():
            if kind in UNCOUNTED or kind not in counts:
                continue
            difference = int(counts[kind]) - len(rows)
            if difference == 0:
                self._settled.pop(kind, None)
            elif self._settled.get(kind) != difference:
                yield kind, difference

    def _reload(self, kind: str) -> None:
        log.warning("events were missed, class read again: %s", kind)
        snapshots = self._session.read(f"{CLASSES[kind]}.get_all_records", timeout=60.0)
        self._mirror.replace(kind, snapshots)
        self.reloads += 1

    def _said(self, *, full: bool) -> Changes:
        made, removed = self._mirror.take()
        self._mirror.forget_lost_waiters()
        return Changes(full, made, () if full else removed, self._mirror.master())


def _goes_back(new: str, old: str) -> bool:
    """Whether the database generation of a token is older: another, older database answers."""
    try:
        return int(new.partition(",")[0]) < int(old.partition(",")[0])
    except ValueError:
        return True
