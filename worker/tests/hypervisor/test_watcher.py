"""The mirror stays in step with a server that tells a diff, forgets deletions and restarts."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from worker.hypervisor.port import (
    Changes,
    HostRecord,
    Record,
    Removed,
    UntranslatedFailure,
    VbdRecord,
    VdiRecord,
    VmRecord,
)
from worker.hypervisor.xapi.events import CLASSES, Mirror, XapiWatcher

NOW = timedelta(0)


class FakePool:
    """A session whose `event.from` answers what is put into `answers`, else what the rows hold."""

    def __init__(self) -> None:
        self.epoch = 1
        self.generation = 10
        self.rows: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in CLASSES}
        self.asked: list[str] = []
        self.read_again: list[str] = []
        self.hidden = 0
        self.put("pool", "pool", name_label="p", master="host", default_SR="", ha_enabled=False)
        self.put("host", "host", **HOST)

    def put(self, kind: str, name: str, **fields: Any) -> str:
        self.rows[kind][name] = {"uuid": str(uuid_of(name)), **fields}
        return name

    def connect(self) -> int:
        return self.epoch

    def long_poll(self, method: str, *args: Any, timeout: float) -> Any:
        _, token, _ = args
        self.asked.append(token)
        self.generation += 1
        events = [] if token else list(self.everything())
        return self.answer(*events)

    def everything(self) -> Iterator[dict[str, Any]]:
        for kind, rows in self.rows.items():
            for ref, row in rows.items():
                yield {"class": kind, "operation": "add", "ref": ref, "snapshot": row}

    def answer(self, *events: dict[str, Any]) -> dict[str, Any]:
        counts = {kind: len(rows) for kind, rows in self.rows.items()}
        counts["message"] = 0
        return {
            "events": list(events),
            "token": f"{self.generation:020d},{0:020d}",
            "valid_ref_counts": counts,
        }

    def read(self, method: str, *args: Any, timeout: float | None = None) -> Any:
        kind = method.partition(".")[0].lower()
        self.read_again.append(kind)
        return dict(self.rows[kind])


HOST = {
    "name_label": "h",
    "address": "10.0.0.1",
    "enabled": True,
    "memory_overhead": 0,
    "cpu_info": {},
    "software_version": {},
    "API_version_major": 2,
    "API_version_minor": 21,
    "resident_VMs": [],
    "control_domain": "",
    "metrics": "metrics",
    "current_operations": {},
}
VM: dict[str, Any] = {
    "name_label": "v",
    "power_state": "Halted",
    "resident_on": "OpaqueRef:NULL",
    "scheduled_to_be_resident_on": "OpaqueRef:NULL",
    "is_a_template": False,
    "is_a_snapshot": False,
    "is_control_domain": False,
    "memory_static_max": 1,
    "memory_overhead": 0,
    "VCPUs_max": 1,
    "domid": -1,
    "other_config": {},
    "xenstore_data": {},
    "current_operations": {},
    "allowed_operations": [],
    "metrics": "OpaqueRef:NULL",
    "guest_metrics": "OpaqueRef:NULL",
}
VBD = {
    "VM": "vm",
    "VDI": "OpaqueRef:NULL",
    "userdevice": "0",
    "mode": "RW",
    "type": "Disk",
    "bootable": True,
    "empty": False,
    "currently_attached": False,
}
METRICS = {"live": True, "memory_total": 2, "memory_free": 1, "last_updated": ""}


def uuid_of(name: str) -> UUID:
    return UUID(int=sum(256**i * b for i, b in enumerate(name.encode())))


def snapshot(name: str, fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"uuid": str(uuid_of(name)), **fields, **changes}


def only(records: tuple[Record, ...], kind: type[Record]) -> Any:
    (found,) = [record for record in records if isinstance(record, kind)]
    return found


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def watcher(pool: FakePool) -> XapiWatcher:
    return XapiWatcher(pool)


# ------------------------------------------------------------------------------------------- the mirror


def test_a_reference_to_what_is_not_there_yet_is_given_out_again_when_it_comes() -> None:
    mirror = Mirror()
    mirror.put("vbd", "vbd", snapshot("vbd", VBD))
    assert only(mirror.take()[0], VbdRecord).vm is None
    mirror.put("vm", "vm", snapshot("vm", VM))
    assert only(mirror.take()[0], VbdRecord).vm == uuid_of("vm")


def test_a_hosts_metrics_are_part_of_the_host() -> None:
    mirror = Mirror()
    mirror.put("host", "host", snapshot("host", HOST))
    mirror.take()
    mirror.put("host_metrics", "metrics", snapshot("metrics", METRICS))
    assert only(mirror.take()[0], HostRecord).live


def test_metrics_that_come_before_their_owner_are_not_lost() -> None:
    mirror = Mirror()
    mirror.put("host_metrics", "metrics", snapshot("metrics", METRICS))
    mirror.put("host", "host", snapshot("host", HOST))
    assert only(mirror.take()[0], HostRecord).memory_total_bytes == 2


def test_the_same_event_twice_is_given_out_once() -> None:
    mirror = Mirror()
    for _ in range(2):
        mirror.put("vm", "vm", snapshot("vm", VM))
    assert len(mirror.take()[0]) == 1
    mirror.put("vm", "vm", snapshot("vm", VM))
    assert mirror.take() == ((), ())


def test_a_field_we_do_not_read_is_no_change() -> None:
    mirror = Mirror()
    mirror.put("vm", "vm", snapshot("vm", VM))
    mirror.take()
    mirror.put("vm", "vm", snapshot("vm", VM, last_boot_CPU_flags={"x": "y"}))
    assert mirror.take() == ((), ())


def test_what_is_removed_is_named_by_uuid_and_not_given_out_any_more() -> None:
    mirror = Mirror()
    mirror.put("vm", "vm", snapshot("vm", VM))
    mirror.remove("vm", "vm")
    mirror.remove("vm", "vm")
    assert mirror.take() == ((), (Removed("vm", uuid_of("vm")),))


def test_waiters_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.hypervisor.xapi.events.MANY_WAITING", 1)
    mirror = Mirror()
    mirror.put("vbd", "vbd", snapshot("vbd", VBD))
    mirror.take()
    mirror.remove("vbd", "vbd")
    mirror.forget_lost_waiters()
    assert mirror._waiting == {}


# ------------------------------------------------------------------------------------------ the watcher


def test_the_first_answer_is_everything(watcher: XapiWatcher) -> None:
    changes = watcher.changes(NOW)
    assert (changes.full, changes.master) == (True, uuid_of("host"))
    assert len(changes.records) == 2


def test_nothing_new_is_said_as_nothing(watcher: XapiWatcher) -> None:
    watcher.changes(NOW)
    assert watcher.changes(NOW) == Changes(False, (), (), uuid_of("host"))


def test_a_difference_seen_once_is_not_believed(watcher: XapiWatcher, pool: FakePool) -> None:
    watcher.changes(NOW)
    pool.put("vm", "vm", **VM)
    watcher.changes(NOW)
    assert pool.read_again == []


def test_a_class_that_differs_twice_is_read_again(watcher: XapiWatcher, pool: FakePool) -> None:
    pool.put("vm", "lost", **VM)
    pool.put("vm", "kept", **VM)
    watcher.changes(NOW)
    del pool.rows["vm"]["lost"]  # more than 512 deletions later nobody says so
    assert watcher.changes(NOW).removed == ()
    assert watcher.changes(NOW).removed == (Removed("vm", uuid_of("lost")),)
    assert pool.read_again == ["vm"]


def test_a_difference_that_reading_again_does_not_mend_is_left_alone(
    watcher: XapiWatcher, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.changes(NOW)
    original = pool.answer

    def miscounted(*events: dict[str, Any]) -> dict[str, Any]:
        answer = original(*events)
        answer["valid_ref_counts"]["task"] = 7
        return answer

    monkeypatch.setattr(pool, "answer", miscounted)
    for _ in range(6):
        watcher.changes(NOW)
    assert pool.read_again == ["task"]


def test_a_token_that_does_not_parse_starts_over(
    watcher: XapiWatcher, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.changes(NOW)
    original = pool.long_poll

    def picky(method: str, *args: Any, timeout: float) -> Any:
        if args[1]:
            raise UntranslatedFailure("EVENT_FROM_TOKEN_PARSE_FAILURE")
        return original(method, *args, timeout=timeout)

    monkeypatch.setattr(pool, "long_poll", picky)
    assert watcher.changes(NOW).full


def test_an_older_database_starts_over(watcher: XapiWatcher, pool: FakePool) -> None:
    watcher.changes(NOW)
    pool.generation = 3
    assert watcher.changes(NOW).full


def test_another_session_starts_over(watcher: XapiWatcher, pool: FakePool) -> None:
    watcher.changes(NOW)
    pool.epoch += 1
    assert watcher.changes(NOW).full


def test_another_master_starts_over(
    watcher: XapiWatcher, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.put("host", "other", **HOST)
    watcher.changes(NOW)
    pool.rows["pool"]["pool"]["master"] = "other"
    event = {"class": "pool", "operation": "mod", "ref": "pool"}
    told = iter([pool.answer({**event, "snapshot": pool.rows["pool"]["pool"]})])
    original = pool.long_poll
    monkeypatch.setattr(pool, "long_poll", lambda *a, **k: next(told, None) or original(*a, **k))
    changes = watcher.changes(NOW)
    assert (changes.full, changes.master) == (True, uuid_of("other"))


# ------------------------------------------------------------------------------------------- the records


def test_a_clone_that_wears_its_sources_marker_is_unfinished() -> None:
    own, source = uuid4(), uuid4()
    clone = VdiRecord(own, "n", None, 1, marker={"hosting:vdi": str(source)})
    finished = VdiRecord(own, "n", None, 1, marker={"hosting:vdi": str(own)})
    assert (clone.is_unfinished_clone, finished.is_unfinished_clone) == (True, False)


def test_a_running_operation_names_its_task() -> None:
    mirror = Mirror()
    row = snapshot("vm", VM, current_operations={"OpaqueRef:t": "pool_migrate"})
    mirror.put("vm", "vm", row)
    vm = only(mirror.take()[0], VmRecord)
    assert (vm.task_of("pool_migrate"), vm.task_of("start")) == ("t", None)


def test_keys_of_others_do_not_show_in_the_marker() -> None:
    mirror = Mirror()
    config = {"mac_seed": "x", "hosting:instance": "i"}
    mirror.put("vm", "vm", snapshot("vm", VM, other_config=config))
    assert only(mirror.take()[0], VmRecord).marker == {"hosting:instance": "i"}
