"""The pool's database: tables of rows with generations, back-references and events' raw material.

One counter numbers every write. A row remembers the generation it was made and last changed at;
a table remembers its rows in order of last change and its latest deletions. That is all that
`event.from` needs, at a cost that depends on what changed and not on how much there is
(semantics: database/db_cache_types.ml as told by FACTS 9).
"""

from __future__ import annotations

import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from deploy.lab.errors import XapiError, handle_invalid
from deploy.lab.schema import NULL, SCHEMA, Class
from deploy.lab.wire import EPOCH, Encoded, parse_date

DELETIONS_KEPT, DELETIONS_TRIMMED_TO = 512, 256


def new_ref() -> str:
    return f"OpaqueRef:{uuid.uuid4()}"


class Row:
    """One object. Read its fields as attributes; write them through `Database.update`.

    `created_at` and `modified_at` are generations. A field named like one of this class's own
    attributes is read as `fields[name]` (there is one: `cls` of a message).
    """

    __slots__ = ("_record", "cls", "created_at", "fields", "modified_at", "ref")

    def __init__(self, cls: str, ref: str, fields: dict[str, Any], generation: int) -> None:
        self.cls = cls
        self.ref = ref
        self.fields = fields
        self.created_at = generation
        self.modified_at = generation
        self._record: Encoded | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"{self.cls} has no field {name}") from None

    @property
    def record(self) -> Encoded:
        """What get_record answers; encoded once per change of the row."""
        if self._record is None:
            internal = SCHEMA.classes[self.cls].fields
            self._record = Encoded(
                {
                    name: _copy(value)
                    for name, value in self.fields.items()
                    if not internal[name].internal
                }
            )
        return self._record

    def changed(self, generation: int) -> None:
        self.modified_at = generation
        self._record = None

    def __repr__(self) -> str:
        return f"<{self.cls} {self.fields.get('name_label') or self.ref}>"


class Table:
    def __init__(self, cls: Class) -> None:
        self.cls = cls
        self.rows: OrderedDict[str, Row] = OrderedDict()  # oldest change first
        self.by_uuid: dict[str, str] = {}
        self.by_label: dict[str, dict[str, None]] = {}
        self.deletions: deque[tuple[int, int, str]] = deque()  # deleted at, created at, ref

    def changed_after(self, generation: int) -> Iterator[Row]:
        """Rows changed later than `generation`, latest first."""
        for ref in reversed(self.rows):
            row = self.rows[ref]
            if row.modified_at <= generation:
                return
            yield row

    def deleted_after(self, generation: int) -> Iterator[str]:
        """References of rows that existed at `generation` and are gone now, latest first."""
        for deleted, created, ref in reversed(self.deletions):
            if deleted <= generation:
                return
            if created <= generation:
                yield ref


@dataclass(frozen=True)
class Snapshot:
    """The whole database at one moment; rows are shared copies, not to be written."""

    generation: int
    rows: dict[str, list[tuple[str, dict[str, Any], int, int]]]
    """Class → (reference, fields, created, modified), oldest change first."""


class Database:
    """All tables of one pool.

    Relations of the datamodel are kept by the database itself: writing `VBD.VM` also changes
    `VM.VBDs` and counts as a change of that VM.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.tables = {name: Table(cls) for name, cls in SCHEMA.classes.items()}
        self.listeners: list[Callable[[str], None]] = []
        self.watchers: list[Callable[[Row, str], None]] = []
        """Told of every single change: the row, and `add`, `mod` or `del`."""
        self._one_to_many: dict[tuple[str, str], tuple[str, str]] = {}
        self._many_to_many: dict[tuple[str, str], tuple[str, str]] = {}
        for left, right in SCHEMA.relations:
            self._relate(left, right)

    def _relate(self, left: str, right: str) -> None:
        (one_cls, one), (many_cls, many) = left.split("."), right.split(".")
        if SCHEMA.classes[one_cls].fields[one].type.t == "ref":
            self._one_to_many[one_cls, one] = many_cls, many
        elif left != right:
            self._many_to_many[one_cls, one] = many_cls, many
            self._many_to_many[many_cls, many] = one_cls, one

    # --- reading

    def find(self, cls: str, ref: str) -> Row | None:
        return self.tables[cls].rows.get(ref)

    def get(self, cls: str, ref: str) -> Row:
        """The row of a reference. Raises HANDLE_INVALID."""
        row = self.tables[cls].rows.get(ref)
        if row is None:
            raise handle_invalid(cls, ref)
        return row

    def all(self, cls: str) -> list[Row]:
        return list(self.tables[cls].rows.values())

    def count(self, cls: str) -> int:
        return len(self.tables[cls].rows)

    def by_uuid(self, cls: str, wanted: str) -> Row:
        """Raises UUID_INVALID."""
        ref = self.tables[cls].by_uuid.get(wanted)
        if ref is None:
            raise XapiError("UUID_INVALID", cls, wanted)
        return self.tables[cls].rows[ref]

    def by_label(self, cls: str, label: str) -> list[Row]:
        table = self.tables[cls]
        return [table.rows[ref] for ref in table.by_label.get(label, ())]

    def rows(self, cls: str, refs: list[str]) -> list[Row]:
        """The rows of those references that still exist."""
        table = self.tables[cls].rows
        return [table[ref] for ref in refs if ref in table]

    # --- writing

    def create(self, cls: str, /, *, ref: str | None = None, **values: Any) -> Row:
        """Add an object; fields not given take the datamodel's default or the type's empty value."""
        table = self.tables[cls]
        fields = {
            name: values[name] if name in values else _default(field)
            for name, field in table.cls.fields.items()
        }
        unknown = values.keys() - fields.keys()
        assert not unknown, f"{cls} has no {unknown}"
        if "uuid" in fields and not fields["uuid"]:
            fields["uuid"] = str(uuid.uuid4())
        self.generation += 1
        row = Row(cls, ref or new_ref(), fields, self.generation)
        self._index(table, row)
        self._tell(row, "add")
        for name in fields:
            self._link(row, name, fields[name])
        self._notify(cls)
        return row

    def update(self, row: Row, **values: Any) -> None:
        """Write fields; writing what is already there is no change and no event."""
        changes = {name: v for name, v in values.items() if row.fields[name] != v}
        if not changes or row.ref not in self.tables[row.cls].rows:
            return
        for name, value in changes.items():
            old = row.fields[name]
            self._unlink(row, name, old)
            row.fields[name] = value
            self._link(row, name, value)
            if name == "name_label":
                self._relabel(row, old, value)
        self.touch(row)

    def touch(self, row: Row) -> None:
        """Count a change of `row` though no field differs."""
        table = self.tables[row.cls]
        if row.ref not in table.rows:
            return
        self.generation += 1
        row.changed(self.generation)
        table.rows.move_to_end(row.ref)
        self._tell(row, "mod")
        self._notify(row.cls)

    def delete(self, row: Row) -> None:
        """Remove an object; others' back-references to it go, their plain references dangle."""
        table = self.tables[row.cls]
        if table.rows.pop(row.ref, None) is None:
            return
        self._tell(row, "del")
        for name, value in row.fields.items():
            self._unlink(row, name, value)
        table.by_uuid.pop(row.fields.get("uuid", ""), None)
        if "name_label" in row.fields:
            self._forget_label(row, row.fields["name_label"])
        self.generation += 1
        table.deletions.append((self.generation, row.created_at, row.ref))
        if len(table.deletions) > DELETIONS_KEPT:
            while len(table.deletions) > DELETIONS_TRIMMED_TO:
                table.deletions.popleft()
        self._notify(row.cls)

    # --- the whole

    def snapshot(self) -> Snapshot:
        """A copy of everything: field values are never changed in place, so one level is enough."""
        return Snapshot(
            self.generation,
            {
                name: [
                    (row.ref, dict(row.fields), row.created_at, row.modified_at)
                    for row in table.rows.values()
                ]
                for name, table in self.tables.items()
            },
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Become what the snapshot was, generation included (which may go back).

        Rows that exist in both keep their identity, so that references held by the lab stay good.
        """
        self.generation = snapshot.generation
        for name, table in self.tables.items():
            old = dict(table.rows)
            table.rows.clear()
            table.by_uuid.clear()
            table.by_label.clear()
            table.deletions.clear()
            for ref, fields, created, modified in snapshot.rows.get(name, ()):
                row = old.get(ref) or Row(name, ref, {}, created)
                row.fields = dict(fields)
                row.created_at = created
                row.changed(modified)
                self._index(table, row)
        for name in self.tables:
            self._notify(name)

    @staticmethod
    def _index(table: Table, row: Row) -> None:
        table.rows[row.ref] = row
        if "uuid" in row.fields:
            table.by_uuid[row.fields["uuid"]] = row.ref
        if "name_label" in row.fields:
            table.by_label.setdefault(row.fields["name_label"], {})[row.ref] = None

    # --- relations and indexes

    def _link(self, row: Row, name: str, value: Any) -> None:
        if (target := self._one_to_many.get((row.cls, name))) and value != NULL:
            self._add_back(target, value, row.ref)
        elif target := self._many_to_many.get((row.cls, name)):
            for ref in value:
                self._add_back(target, ref, row.ref)

    def _unlink(self, row: Row, name: str, value: Any) -> None:
        if (target := self._one_to_many.get((row.cls, name))) and value != NULL:
            self._remove_back(target, value, row.ref)
        elif target := self._many_to_many.get((row.cls, name)):
            for ref in value:
                self._remove_back(target, ref, row.ref)

    def _add_back(self, target: tuple[str, str], ref: str, member: str) -> None:
        other = self.tables[target[0]].rows.get(ref)
        if other is not None and member not in other.fields[target[1]]:
            other.fields[target[1]] = [member, *other.fields[target[1]]]
            self.touch(other)

    def _remove_back(self, target: tuple[str, str], ref: str, member: str) -> None:
        other = self.tables[target[0]].rows.get(ref)
        if other is not None and member in other.fields[target[1]]:
            other.fields[target[1]] = [r for r in other.fields[target[1]] if r != member]
            self.touch(other)

    def _relabel(self, row: Row, old: str, new: str) -> None:
        self._forget_label(row, old)
        self.tables[row.cls].by_label.setdefault(new, {})[row.ref] = None

    def _forget_label(self, row: Row, label: str) -> None:
        labels = self.tables[row.cls].by_label
        if label in labels:
            labels[label].pop(row.ref, None)
            if not labels[label]:
                del labels[label]

    def _tell(self, row: Row, operation: str) -> None:
        for watcher in self.watchers:
            watcher(row, operation)

    def _notify(self, cls: str) -> None:
        for listener in self.listeners:
            listener(cls)


def _default(field: Any) -> Any:
    if field.type.t == "datetime":
        return parse_date(field.default) if field.has_default else EPOCH
    if field.has_default:
        return _copy(field.default)
    return _copy(field.type.empty)


def _copy(value: Any) -> Any:
    if isinstance(value, list):
        return list(value)
    return dict(value) if isinstance(value, dict) else value
