"""event.from as a difference, and the old register and next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.classes import event as event_class_module
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

START = "00000000000000000000,00000000000000000000"


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=1, tls=False, preset="small", rate=20.0) as lab, vms_of(lab) as vms:
        yield vms


def changes(vms: Vms, classes: list[str], token: str, timeout: float = 1.0) -> Any:
    return getattr(vms.api.event, "from")(classes, token, timeout)


def kinds(answer: Any) -> list[tuple[str, str]]:
    return [(event["operation"], event["ref"]) for event in answer["events"]]


def test_the_first_call_gives_everything_there_is(vms: Vms) -> None:
    answer = changes(vms, ["pool"], "")
    assert [event["operation"] for event in answer["events"]] == ["add"]
    assert answer["events"][0]["snapshot"] == vms.api.pool.get_record(answer["events"][0]["ref"])
    assert answer["valid_ref_counts"]["host"] == 1


def test_several_changes_of_an_object_come_as_one(vms: Vms) -> None:
    vm = vms.vm()
    token = changes(vms, ["VM"], "")["token"]
    vms.api.VM.set_name_description(vm, "1")
    vms.api.VM.set_name_description(vm, "2")
    answer = changes(vms, ["vm"], token)
    assert kinds(answer) == [("mod", vm)]
    assert answer["events"][0]["snapshot"]["name_description"] == "2"


def test_what_came_and_went_in_between_is_not_told(vms: Vms) -> None:
    token = changes(vms, ["VM"], "")["token"]
    vms.api.VM.destroy(vms.vm())
    assert changes(vms, ["VM"], token, 0.2)["events"] == []


def test_additions_come_before_changes_and_deletions_last(vms: Vms) -> None:
    gone, changed = vms.vm(), vms.vm()
    token = changes(vms, ["VM"], "")["token"]
    vms.api.VM.destroy(gone)
    vms.api.VM.set_name_label(changed, "changed")
    added = vms.vm()
    answer = changes(vms, ["VM"], token)
    assert kinds(answer) == [("add", added), ("mod", changed), ("del", gone)]
    assert "snapshot" not in answer["events"][-1]


def test_one_object_can_be_watched(vms: Vms) -> None:
    one, other = vms.vm(), vms.vm()
    token = changes(vms, [f"VM/{one}"], "")["token"]
    vms.api.VM.set_name_label(other, "x")
    vms.api.VM.set_name_label(one, "x")
    assert kinds(changes(vms, [f"VM/{one}"], token)) == [("mod", one)]


@pytest.mark.parametrize("classes", [["nosuch"], [], ["session"], ["host/x/y"], ["*/x"]])
def test_what_is_not_there_never_happens(vms: Vms, classes: list[str]) -> None:
    answer = changes(vms, classes, "", 0.1)
    assert (answer["events"], answer["token"]) == ([], START)


@pytest.mark.parametrize("token", ["garbage", "1", ",", "99999999999999999999,0"])
def test_a_token_must_be_one(vms: Vms, token: str) -> None:
    answer = error_of(changes, vms, ["pool"], token)
    assert answer == ["EVENT_FROM_TOKEN_PARSE_FAILURE", token]


def test_messages_have_a_moment_of_their_own(vms: Vms) -> None:
    message = vms.api.message.create("N", "3", "VM", vms.api.VM.get_uuid(vms.vm()), "")
    answer = changes(vms, ["message"], "")
    assert [event["id"] for event in answer["events"]] == ["0"] * len(answer["events"])
    assert answer["valid_ref_counts"]["message"] == 0
    vms.api.message.destroy(message)
    assert ("del", message) in kinds(changes(vms, ["message"], answer["token"]))


def test_an_injected_event_is_a_barrier(vms: Vms) -> None:
    vm = vms.vm()
    token = vms.api.event.inject("VM", vm)
    assert kinds(changes(vms, ["VM"], token)) == [("mod", vm)]


def test_a_waiting_call_wakes_on_a_change(vms: Vms) -> None:
    vm = vms.vm()
    token = changes(vms, [f"VM/{vm}"], "")["token"]
    answers: list[Any] = []
    with vms_of(vms.lab) as watcher:
        thread = threading.Thread(
            target=lambda: answers.append(changes(watcher, [f"VM/{vm}"], token, 600.0))
        )
        thread.start()
        vms.api.VM.set_name_label(vm, "wake")
        thread.join(20.0)
    assert kinds(answers[0]) == [("mod", vm)]


def test_next_needs_a_registration(vms: Vms) -> None:
    assert error_of(vms.api.event.next)[0] == "SESSION_NOT_REGISTERED"
    vms.api.event.unregister(["VM"])


def test_a_registered_session_is_told_of_what_it_asked_for(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.event.register(["vm"])
    vms.api.VM.set_name_label(vm, "told")
    (event,) = vms.api.event.next()
    assert (event["operation"], event["ref"]) == ("mod", vm)
    assert vms.api.event.get_current_id() == str(int(event["id"]) + 1)
    vms.api.event.unregister(["vm"])


def test_a_registered_session_is_told_of_every_single_change(vms: Vms) -> None:
    vms.api.event.register(["VM"])
    vm = vms.vm()
    vms.api.VM.set_name_label(vm, "one")
    vms.api.VM.set_name_label(vm, "two")
    vms.api.VM.destroy(vm)
    told = [e for e in vms.api.event.next() if e["ref"] == vm]
    kinds_told = [event["operation"] for event in told]
    assert (kinds_told[0], kinds_told[-1]) == ("add", "del")
    labels = [event["snapshot"]["name_label"] for event in told[:-1]]
    assert labels.index("one") < labels.index("two")
    vms.api.event.unregister(["VM"])


def test_who_asks_too_late_is_told_that_events_are_lost(
    vms: Vms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_class_module, "LARGEST_LOG", 10_000)
    vms.api.event.register(["VM"])
    vm = vms.vm()
    for number in range(5):
        vms.api.VM.set_name_label(vm, f"label {number}")
    assert error_of(vms.api.event.next) == ["EVENTS_LOST"]
    vms.api.VM.set_name_label(vm, "last")
    assert [event["operation"] for event in vms.api.event.next()] == ["mod"]
    vms.api.event.unregister(["VM"])
