from __future__ import annotations

import asyncio
import sqlite3
import ssl
from pathlib import Path

import pytest

from deploy.lab.database import Database
from deploy.lab.lab import Config
from deploy.lab.server import start_on_a_free_port
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


def test_a_lab_goes_on_from_its_file_with_its_vms_running_and_its_disks_full(
    tmp_path: Path,
) -> None:
    async def first(path: Path) -> tuple[str, str]:
        server = await start_on_a_free_port(config(), tls=False, state=StateFile(path))
        lab, host = server.lab, server.lab.coordinator
        sr = lab.db.get("SR", lab.pool.default_SR)
        vdi = lab.db.create("VDI", SR=sr.ref, virtual_size=4 << 20, managed=True)
        lab.storage.write(vdi, 1 << 20, b"kept")
        vm = lab.db.create(
            "VM", name_label="web", power_state="Running", resident_on=host.host.ref, domid=7
        )
        lab.resume_domain(
            host, vm, {"started_at": 0.0, "is_up": True, "paused": False, "console": ""}
        )
        lab.db.update(vm, current_operations={"OpaqueRef:gone": "pool_migrate"})
        await server.stop()
        return vm.uuid, vdi.uuid

    async def second(path: Path, vm: str, vdi: str) -> None:
        server = await start_on_a_free_port(config(), tls=False, state=StateFile(path))
        lab = server.lab
        row = lab.db.by_uuid("VM", vm)
        assert row.power_state == "Running"
        assert row.current_operations == {}
        assert vm in lab.coordinator.domains
        assert len(row.consoles) == 2
        assert lab.storage.read(lab.db.by_uuid("VDI", vdi), 1 << 20, 4) == b"kept"
        await server.stop()

    vm, vdi = asyncio.run(first(tmp_path / "lab.state"))
    asyncio.run(second(tmp_path / "lab.state", vm, vdi))


def test_a_vm_that_said_running_without_a_domain_is_halted_when_the_lab_goes_on(
    tmp_path: Path,
) -> None:
    async def run() -> str:
        server = await start_on_a_free_port(config(), tls=False, state=StateFile(tmp_path / "s"))
        lab = server.lab
        vm = lab.db.create(
            "VM", power_state="Running", resident_on=lab.coordinator.host.ref, name_label="lost"
        )
        await server.stop()
        again = await start_on_a_free_port(config(), tls=False, state=StateFile(tmp_path / "s"))
        state: str = again.lab.db.by_uuid("VM", vm.uuid).power_state
        await again.stop()
        return state

    assert asyncio.run(run()) == "Halted"


def test_management_controllers_keep_their_certificate(tmp_path: Path) -> None:
    """Clients pin it."""

    async def shown() -> str:
        server = await start_on_a_free_port(
            config(), tls=False, sides=True, state=StateFile(tmp_path / "s")
        )
        machine = server.lab.coordinator
        try:
            return await asyncio.to_thread(
                ssl.get_server_certificate, (machine.address, machine.bmc_port), timeout=10
            )
        finally:
            await server.stop()

    assert asyncio.run(shown()) == asyncio.run(shown())


def test_a_pool_of_another_size_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        server = await start_on_a_free_port(config(), tls=False, state=StateFile(tmp_path / "s"))
        await server.stop()
        await start_on_a_free_port(Config(hosts=3), tls=False, state=StateFile(tmp_path / "s"))

    with pytest.raises(WrongState, match="a pool of 2 hosts, not 3"):
        asyncio.run(run())


def config() -> Config:
    return Config(hosts=2, addresses=["127.0.63.1", "127.0.63.2"])
