"""Values as XAPI writes them, read in both protocols."""

from datetime import UTC, datetime
from uuid import UUID
from xmlrpc.client import DateTime

import pytest

from worker.hypervisor.port import TaskHandle
from worker.hypervisor.xapi.calls import _literal
from worker.hypervisor.xapi.enrol import is_same_fingerprint
from worker.hypervisor.xapi.looking import samples
from worker.hypervisor.xapi.making import first_of, is_ours, remarked
from worker.hypervisor.xapi.records import (
    moment,
    result_ref,
    task_handle,
    task_record,
    task_ref,
    vbd_record,
)

NOON = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)
HOST = "11111111-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("20261123T12:00:01Z", NOON),
        (DateTime("20261123T12:00:01Z"), NOON),
        ("20261123T12:00:01.234Z", NOON),
        ("19700101T00:00:00Z", None),
        ("", None),
    ],
)
def test_a_moment_is_read_and_the_epoch_is_never(text: object, at: datetime | None) -> None:
    assert moment(text) == at


@pytest.mark.parametrize("ref", ["OpaqueRef:1-2-3", "DummyRef:|1|VM.get_boot_record"])
def test_a_handle_leads_back_to_its_task(ref: str) -> None:
    assert task_ref(task_handle(ref)) == ref


def test_a_handle_shows_no_reference() -> None:
    assert task_handle("OpaqueRef:1-2-3") == TaskHandle("1-2-3")


@pytest.mark.parametrize(
    ("result", "ref"),
    [
        ("<value>OpaqueRef:a-b</value>", "OpaqueRef:a-b"),
        ("<value></value>", None),
        ("", None),
        ("<value>OpaqueRef:NULL</value>", None),
    ],
)
def test_a_tasks_result_is_a_reference_or_nothing(result: str, ref: str | None) -> None:
    assert result_ref(result) == ref


def test_a_failed_task_says_why_in_our_words() -> None:
    raw = {
        "uuid": HOST,
        "name_label": "Async.VM.start_on",
        "status": "failure",
        "progress": 1.0,
        "created": "",
        "finished": "",
        "result": "",
        "error_info": ["HOST_NOT_ENOUGH_FREE_MEMORY", "2", "1"],
        "other_config": {},
    }
    error = task_record("OpaqueRef:t", raw, lambda *_: None).error
    assert error is not None
    assert getattr(error, "reason", "") == "memory"


def test_a_foreign_device_name_is_no_number() -> None:
    raw = {
        "uuid": HOST,
        "VM": "OpaqueRef:NULL",
        "VDI": "OpaqueRef:NULL",
        "userdevice": "xvda",
        "mode": "RO",
        "type": "CD",
        "bootable": False,
        "empty": True,
        "currently_attached": False,
    }
    assert vbd_record(raw, lambda *_: None).device == -1


def test_samples_leave_out_what_is_not_a_number() -> None:
    updates = {
        "meta": {"legend": [f"AVERAGE:vm:{HOST}:cpu0", f"AVERAGE:host:{HOST}:memory_free_kib"]},
        "data": [{"t": NOON.timestamp(), "values": ["0.25", "NaN"]}],
    }
    (only,) = samples(updates)
    assert (only.kind, only.uuid, only.name, only.at) == ("vm", UUID(HOST), "cpu0", NOON)
    assert only.value == 0.25


def test_a_name_with_quotes_is_not_put_into_an_expression() -> None:
    with pytest.raises(ValueError, match="quotes"):
        _literal('x" or true')


# --------------------------------------------------------------------------------------------- markers


@pytest.mark.parametrize(
    ("marker", "ours"),
    [
        ({}, False),
        ({"hosting:instance": "i", "hosting:operation": "earlier"}, True),
        ({"hosting:instance": "another"}, False),
    ],
)
def test_an_object_is_ours_by_its_marker(marker: dict[str, str], ours: bool) -> None:
    assert is_ours(marker, {"hosting:instance": "i", "hosting:operation": "o"}) is ours


def test_of_several_the_one_this_operation_made_is_chosen() -> None:
    wanted = {"hosting:instance": "i", "hosting:operation": "o"}
    found = {
        "OpaqueRef:a": {"other_config": {**wanted, "hosting:operation": "earlier"}},
        "OpaqueRef:c": {"other_config": wanted},
        "OpaqueRef:b": {"other_config": wanted},
    }
    chosen = first_of(found, wanted)
    assert chosen is not None
    assert chosen[0] == "OpaqueRef:b"


def test_marking_keeps_the_keys_of_others() -> None:
    config = {"mac_seed": "s", "hosting:old": "x"}
    assert remarked(config, {"hosting:new": "y"}) == {"mac_seed": "s", "hosting:new": "y"}


def test_fingerprints_are_compared_however_they_are_written() -> None:
    assert is_same_fingerprint("AB:cd:01", "abcd01")
    assert not is_same_fingerprint("AB:cd:02", "abcd01")
    assert not is_same_fingerprint("", "")
