from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from deploy.lab.database import Database
from deploy.lab.state import StateFile, WrongState


def stored(db: Database) -> dict[str, dict[str, object]]:
    return {
        name: {
            row.ref: (row.fields, row.created_at, row.modified_at) for row in table.rows.values()
        }
        for name, table in db.tables.items()
        if table.cls.persist
    }


def test_what_was_saved_comes_back_as_it_was(tmp_path: Path) -> None:
    db, path = Database(), tmp_path / "lab.state"
    vm = db.create("VM", name_label="a", tags=["x"], other_config={"k": "v"})
    db.create("VBD", VM=vm.ref)
    state = StateFile(path)
    state.save(db, {vm.uuid: ("host", {"booted": True})})
    state.close()

    again = StateFile(path)
    loaded = again.load()
    assert loaded is not None
    other = Database()
    other.restore(loaded)
    assert stored(other) == stored(db)
    assert again.domains() == {vm.uuid: ("host", {"booted": True})}


def test_later_changes_and_deletions_are_saved_too(tmp_path: Path) -> None:
    db, path = Database(), tmp_path / "lab.state"
    vm, gone = db.create("VM", name_label="a"), db.create("VM", name_label="gone")
    state = StateFile(path)
    state.save(db, {})
    db.update(vm, name_label="b")
    db.delete(gone)
    state.save(db, {})
    state.close()

    loaded = StateFile(path).load()
    assert loaded is not None
    other = Database()
    other.restore(loaded)
    assert stored(other) == stored(db)


def test_a_save_after_the_database_went_back_leaves_nothing_of_the_future(tmp_path: Path) -> None:
    db, path = Database(), tmp_path / "lab.state"
    db.create("VM", name_label="a")
    older = db.snapshot()
    db.create("VM", name_label="later")
    state = StateFile(path)
    state.save(db, {})
    db.restore(older)
    state.save(db, {})
    state.close()

    loaded = StateFile(path).load()
    assert loaded is not None
    assert [fields["name_label"] for _, fields, _, _ in loaded.rows["VM"]] == ["a"]


def test_a_state_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "lab.state"
    StateFile(path).close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_state_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, which are longer than a database's header would be" * 20)
    with pytest.raises(WrongState, match="Name another file"):
        StateFile(path)
    assert path.read_text().startswith("my notes")


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.state"
    StateFile(path).close()
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO facts VALUES ('format', '\"99\"')")
    with pytest.raises(WrongState, match="another version"):
        StateFile(path)
