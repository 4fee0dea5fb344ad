"""A lab kept in one file: what a pool, its machines and its disks were, to go on from there.

The file is an SQLite database. Saving writes only the rows that changed since the last time, in
one transaction, so a lab that is killed comes back as of its last save. Sessions, tasks and
consoles are not kept, as the daemon does not keep them either (XAPI.md 1.2).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.lab.database import Database, Row, Snapshot
from deploy.lab.schema import SCHEMA, Class
from deploy.lab.wire import format_date, parse_date

FORMAT = "1"

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    class TEXT NOT NULL, ref TEXT NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
    fields TEXT NOT NULL, PRIMARY KEY (class, ref)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS domains (vm TEXT PRIMARY KEY, host TEXT NOT NULL, guest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    disk TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (disk, number)
) WITHOUT ROWID;
"""


class WrongState(Exception):
    """The file is no lab state, or of another version of the lab; the message says what to do."""


class StateFile:
    """One lab's file. `load` first, then `save` as often as wished, `close` at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._file = sqlite3.connect(path, isolation_level=None)
        try:
            self._file.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise WrongState(
                f"{path} is not a lab's state ({error}). Name another file, or remove it."
            ) from None
        self._saved_generation = -1
        self._saved: dict[str, set[str]] = {}
        self._facts: dict[str, str] = {}
        self._domains: dict[str, tuple[str, str]] = {}
        if (found := self.fact("format")) not in (None, FORMAT):
            raise WrongState(
                f"{path} was written by another version of the lab (format {found}, this one "
                f"reads {FORMAT}). Remove it to start with a fresh pool."
            )

    def close(self) -> None:
        self._file.close()

    # --- facts: small things by name (passwords, keys, configuration)

    def fact(self, name: str) -> Any:
        row = self._file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: Any) -> None:
        text = json.dumps(value)
        if self._facts.get(name) != text:
            self._file.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))
            self._facts[name] = text

    # --- the pool's database

    def load(self) -> Snapshot | None:
        """The database as last saved; None when nothing was."""
        generation = self.fact("generation")
        if generation is None:
            return None
        rows: dict[str, list[tuple[str, dict[str, Any], int, int]]] = {}
        stored = self._file.execute(
            "SELECT class, ref, created, modified, fields FROM objects ORDER BY modified"
        )
        for cls, ref, created, modified, fields in stored:
            decoded = _decode(SCHEMA.classes[cls], json.loads(fields))
            rows.setdefault(cls, []).append((ref, decoded, created, modified))
            self._saved.setdefault(cls, set()).add(ref)
        self._saved_generation = generation
        return Snapshot(generation, rows)

    def save(self, db: Database, domains: dict[str, tuple[str, Any]]) -> None:
        """Write what changed. `domains`: VM uuid → (host uuid, what the guest needs to go on)."""
        if db.generation < self._saved_generation:
            # The pool went on from an older copy of its database: nothing saved can be trusted.
            self._saved_generation = -1
        self._file.execute("BEGIN IMMEDIATE")
        try:
            for name, table in db.tables.items():
                if table.cls.persist or name == "message":
                    self._save_table(name, table.rows, table.changed_after(self._saved_generation))
            self._save_domains(domains)
            self.set_fact("generation", db.generation)
            self.set_fact("format", FORMAT)
        except BaseException:
            self._file.execute("ROLLBACK")
            self._recall()
            raise
        self._file.execute("COMMIT")
        self._saved_generation = db.generation

    def _recall(self) -> None:
        """Know again what the file holds, and nothing else."""
        self._facts.clear()
        self._saved = {}
        for cls, ref in self._file.execute("SELECT class, ref FROM objects"):
            self._saved.setdefault(cls, set()).add(ref)
        self._saved_generation = self.fact("generation") or -1
        self.domains()

    def _save_domains(self, domains: dict[str, tuple[str, Any]]) -> None:
        now = {vm: (host, json.dumps(guest)) for vm, (host, guest) in domains.items()}
        self._file.executemany(
            "DELETE FROM domains WHERE vm = ?", ((vm,) for vm in self._domains.keys() - now.keys())
        )
        self._file.executemany(
            "INSERT OR REPLACE INTO domains VALUES (?, ?, ?)",
            ((vm, *kept) for vm, kept in now.items() if self._domains.get(vm) != kept),
        )
        self._domains = now

    def _save_table(self, name: str, rows: dict[str, Row], changed: Iterator[Row]) -> None:
        saved = self._saved.setdefault(name, set())
        self._file.executemany(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
            (
                (name, row.ref, row.created_at, row.modified_at, _encode(row.fields))
                for row in changed
            ),
        )
        gone = saved - rows.keys()
        self._file.executemany(
            "DELETE FROM objects WHERE class = ? AND ref = ?", ((name, ref) for ref in gone)
        )
        self._saved[name] = set(rows)

    def domains(self) -> dict[str, tuple[str, Any]]:
        """VM uuid → (host uuid, what its guest said when it was saved)."""
        stored = self._file.execute("SELECT vm, host, guest FROM domains")
        self._domains = {vm: (host, guest) for vm, host, guest in stored}
        return {vm: (host, json.loads(guest)) for vm, (host, guest) in self._domains.items()}

    # --- disks

    def blocks(self) -> Iterator[tuple[str, int, bytes]]:
        """(disk, block number, data) of everything stored."""
        yield from self._file.execute("SELECT disk, number, data FROM blocks")

    def save_blocks(self, changed: dict[str, dict[int, bytes]], gone: set[str]) -> None:
        """Write blocks that changed and forget disks that are gone, in one transaction."""
        if not changed and not gone:
            return
        self._file.execute("BEGIN IMMEDIATE")
        try:
            self._file.executemany("DELETE FROM blocks WHERE disk = ?", ((disk,) for disk in gone))
            self._file.executemany(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)",
                (
                    (disk, number, data)
                    for disk, blocks in changed.items()
                    for number, data in blocks.items()
                ),
            )
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")


def _encode(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=_date)


def _date(value: Any) -> str:
    assert isinstance(value, datetime), value
    return format_date(value)


def _decode(cls: Class, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: parse_date(value) if cls.fields[name].type.t == "datetime" else value
        for name, value in fields.items()
    }
