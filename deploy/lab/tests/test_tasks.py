"""Tasks: of asynchronous calls, of clients' own; cancelling, destroying, being collected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.tasks import COMPLETED_KEPT, MOST_TASKS
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=1, tls=False, preset="small") as lab, vms_of(lab) as vms:
        yield vms


def test_a_clients_task_takes_what_it_is_given(vms: Vms) -> None:
    task = vms.api.task.create("mine", "desc")
    vms.api.task.set_progress(task, 2.0)
    vms.api.task.set_status(task, "success")
    vms.api.task.set_error_info(task, ["A", "b"])
    record = vms.api.task.get_record(task)
    assert (record["progress"], record["status"], record["type"]) == (2.0, "success", "<none/>")
    assert record["finished"].value == "19700101T00:00:00Z"
    assert record["allowed_operations"] == []


def test_a_pending_task_waits_for_its_end_to_be_destroyed(vms: Vms) -> None:
    task = vms.api.task.create("mine", "")
    vms.api.task.destroy(task)
    assert vms.api.task.get_current_operations(task) == {"task": "destroy"}


def test_a_finished_task_is_destroyed_at_once(vms: Vms) -> None:
    task = vms.api.task.create("mine", "")
    vms.api.task.set_status(task, "failure")
    vms.api.task.destroy(task)
    assert error_of(vms.api.task.destroy, task) == ["HANDLE_INVALID", "task", task]


def test_cancelling_is_noted_once_and_never_refused(vms: Vms) -> None:
    task = vms.api.task.create("mine", "")
    vms.api.task.cancel(task)
    vms.api.task.set_status(task, "success")
    vms.api.task.cancel(task)
    assert list(vms.api.task.get_current_operations(task).values()) == ["cancel"]


def test_an_invalid_call_fails_in_its_task(vms: Vms) -> None:
    vm = vms.vm()
    task = vms.api.Async.VM.pause(vm)
    record = vms.api.task.get_record(task)
    assert record["name_label"] == "Async.VM.pause"
    assert record["status"] == "failure"
    assert record["error_info"] == ["VM_BAD_POWER_STATE", vm, "running", "halted"]
    assert record["progress"] == 1.0


def test_a_wrong_number_of_arguments_is_no_task(vms: Vms) -> None:
    answer = error_of(vms.api.Async.VM.start, vms.vm())
    assert answer == ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "1"]


def test_a_result_is_a_piece_of_xml(vms: Vms) -> None:
    vm = vms.vm()
    assert vms.api.task.get_result(vms.api.Async.VM.assert_agile(vm)) == "<value></value>"
    clone = vms.api.Async.VM.clone(vm, "clone")
    (made,) = vms.api.VM.get_by_name_label("clone")
    assert vms.api.task.get_result(clone) == f"<value>{made}</value>"


def test_a_cancelled_start_ends_cancelled(vms: Vms) -> None:
    vms.lab.clock.set_rate(0.0)
    try:
        task = vms.api.Async.VM.start(vms.vm(), False, False)
        assert vms.api.task.get_allowed_operations(task) == ["cancel"]
        vms.api.task.cancel(task)
        vms.lab.clock.advance(60.0)
        assert vms.api.task.get_record(task)["status"] in ("cancelled", "success")
    finally:
        vms.lab.clock.set_rate(1.0)


def test_completed_tasks_are_forgotten(vms: Vms) -> None:
    task = vms.api.Async.VM.pause(vms.vm())
    vms.lab.clock.advance(COMPLETED_KEPT + 60.0)
    assert error_of(vms.api.task.get_record, task)[0] == "HANDLE_INVALID"


def test_the_oldest_completed_tasks_go_when_there_are_too_many(vms: Vms) -> None:
    vm = vms.vm()
    tasks = [vms.api.Async.VM.pause(vm) for _ in range(MOST_TASKS + 5)]
    vms.lab.clock.advance(31.0)
    assert len(vms.api.task.get_all()) <= MOST_TASKS
    assert vms.api.task.get_status(tasks[-1]) == "failure"
