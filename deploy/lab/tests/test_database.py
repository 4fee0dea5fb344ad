from __future__ import annotations

import pytest

from deploy.lab.database import DELETIONS_KEPT, DELETIONS_TRIMMED_TO, Database
from deploy.lab.errors import XapiError
from deploy.lab.schema import NULL


def test_a_reference_to_an_object_shows_in_its_back_reference_and_changes_it() -> None:
    db = Database()
    vm = db.create("VM", name_label="a")
    before = vm.modified_at
    vbd = db.create("VBD", VM=vm.ref)
    assert vm.VBDs == [vbd.ref]
    assert vm.modified_at > before
    db.delete(vbd)
    assert vm.VBDs == []


def test_moving_a_reference_moves_the_back_reference() -> None:
    db = Database()
    first, second = db.create("host"), db.create("host")
    vm = db.create("VM", resident_on=first.ref)
    db.update(vm, resident_on=second.ref)
    assert (first.resident_VMs, second.resident_VMs) == ([], [vm.ref])
    db.update(vm, resident_on=NULL)
    assert second.resident_VMs == []


def test_writing_what_is_already_there_is_no_change() -> None:
    db = Database()
    vm = db.create("VM", name_label="a")
    before = db.generation
    db.update(vm, name_label="a")
    assert db.generation == before


def test_only_the_latest_deletions_are_remembered() -> None:
    db = Database()
    start = db.generation
    for row in [db.create("network") for _ in range(DELETIONS_KEPT + 1)]:
        db.delete(row)
    table = db.tables["network"]
    assert len(table.deletions) == DELETIONS_TRIMMED_TO
    assert not list(table.deleted_after(start))  # none of them existed then


def test_a_renamed_object_is_found_by_its_new_name_only() -> None:
    db = Database()
    vm = db.create("VM", name_label="a")
    db.update(vm, name_label="b")
    assert db.by_label("VM", "a") == []
    assert db.by_label("VM", "b") == [vm]


def test_a_wrong_reference_is_a_xapi_error_that_names_it() -> None:
    with pytest.raises(XapiError) as raised:
        Database().get("VM", "OpaqueRef:x")
    assert raised.value.description == ["HANDLE_INVALID", "VM", "OpaqueRef:x"]


def test_a_restored_database_is_what_it_was_generation_included() -> None:
    db = Database()
    vm = db.create("VM", name_label="a")
    snapshot = db.snapshot()
    db.update(vm, name_label="b")
    newer = db.create("VM", name_label="newer")
    db.restore(snapshot)
    assert vm.name_label == "a"
    assert db.generation == snapshot.generation
    assert db.find("VM", newer.ref) is None
    assert db.by_label("VM", "b") == []
    assert [row.ref for row in db.tables["VM"].changed_after(0)] == [vm.ref]


def test_no_two_rows_share_a_default_value() -> None:
    db = Database()
    first, second = db.create("VM"), db.create("VM")
    assert first.other_config is not second.other_config
