"""Messages: made by calls and by hand, found, destroyed, never too many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.classes.message import MOST_MESSAGES, post
from deploy.lab.lab import Lab
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

LONG_AGO = "19700101T00:00:00Z"


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=1, tls=False, preset="small", rate=20.0) as lab, vms_of(lab) as vms:
        yield vms


def test_a_message_is_found_by_its_object_latest_first(vms: Vms) -> None:
    uuid = vms.api.VM.get_uuid(vms.vm())
    first = vms.api.message.create("FIRST", "3", "VM", uuid, "body")
    second = vms.api.message.create("SECOND", "3", "VM", uuid, "")
    assert list(vms.api.message.get("VM", uuid, LONG_AGO)) == [second, first]
    assert vms.api.message.get_record(first)["cls"] == "VM"


def test_a_message_is_about_something(vms: Vms) -> None:
    answer = error_of(vms.api.message.create, "N", "3", "VM", "nosuch", "b")
    assert answer == ["UUID_INVALID", "VM", "nosuch"]
    answer = error_of(vms.api.message.create, "N", "3", "Bogus", "nosuch", "b")
    assert answer == ["INTERNAL_ERROR", 'Failure("Unknown tag/contents")']


def test_starting_a_vm_leaves_a_message(vms: Vms) -> None:
    vm = vms.started("h1")
    record = vms.api.VM.get_record(vm)
    (message,) = vms.api.message.get("VM", record["uuid"], LONG_AGO).values()
    assert (message["name"], message["priority"]) == ("VM_STARTED", "5")
    assert message["body"].startswith(
        f"VM '{record['name_label']}' (uuid: {record['uuid']}) started"
    )
    vms.api.VM.hard_shutdown(vm)


def test_a_message_outlives_its_object(vms: Vms) -> None:
    vm = vms.vm()
    message = vms.api.message.create("N", "3", "VM", vms.api.VM.get_uuid(vm), "")
    vms.api.VM.destroy(vm)
    assert vms.api.message.get_record(message)["name"] == "N"


def test_a_destroyed_message_is_gone(vms: Vms) -> None:
    message = vms.api.message.create("N", "3", "VM", vms.api.VM.get_uuid(vms.vm()), "")
    vms.api.message.destroy_many([message])
    assert error_of(vms.api.message.destroy, message) == ["HANDLE_INVALID", "message", message]


def test_the_oldest_of_too_many_messages_goes(vms: Vms) -> None:
    def fill(lab: Lab) -> tuple[int, bool]:
        first = post(lab, "VM_STARTED", "VM", "uuid", "")
        for _ in range(MOST_MESSAGES):
            post(lab, "VM_STARTED", "VM", "uuid", "")
        return lab.db.count("message"), lab.db.find("message", first.ref) is None

    assert vms.lab.do(fill) == (MOST_MESSAGES, True)
