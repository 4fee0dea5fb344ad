"""The engine's statements, written out: taking an operation, reading what it is about, writing how it goes on.

They run for each step of each operation. To have the ORM make their SQL anew took longer than PostgreSQL takes to run
them (benchmarks/README.md). Tables and columns are named by the models; all clocks are the database's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import connection, models
from django.db.models.functions import Now

from hosting.catalog.models import ImageVersion
from hosting.compute.models import Container, Instance
from hosting.fleet.models import Pool
from hosting.operations.choices import State, What
from hosting.operations.models import WITH_POOL, Operation, OperationEvent

# A pool's candidates are certificates by the dozen, and only needed to make its driver.
HEAVY: Final = frozenset({"candidates"})


@dataclass(frozen=True, slots=True)
class Sql:
    """A value that the database reckons."""

    text: str
    values: tuple[Any, ...] = ()


NOW: Final = Sql("STATEMENT_TIMESTAMP()")


def later(delay: timedelta) -> Sql:
    return Sql("STATEMENT_TIMESTAMP() + %s", (delay,))


@dataclass(frozen=True, slots=True)
class Note:
    """A line of the journal, about the step that the operation was at or is at now."""

    what: What
    step: str
    attempt: int = 0
    message: str | Sql = ""


def take(uuid: UUID, lease: timedelta) -> Operation | None:
    """The operation, held for so long, if it is due and nobody holds it."""
    table = Operation._meta.db_table
    rows = _run(
        f"UPDATE {table} SET lease_token = %s, leased_until = STATEMENT_TIMESTAMP() + %s, attempt = attempt + 1"
        f" WHERE uuid = %s AND state = '{State.ACTIVE}' AND run_at <= STATEMENT_TIMESTAMP()"
        f" AND leased_until <= STATEMENT_TIMESTAMP() RETURNING {_columns(Operation)}",
        [uuid4(), lease, uuid],
    )
    return next((_row(Operation, iter(row)) for row in rows), None)


def renew(operation: Operation, lease: timedelta) -> bool:
    """Hold it for so long from now; False when it is held no more. Nothing else of it is changed or read.

    By the ORM, unlike the others: no step waits for it.
    """
    mine = Operation.objects.active().filter(pk=operation.pk, lease_token=operation.lease_token)
    return mine.update(leased_until=Now() + lease) == 1


def read_subject(operation: Operation) -> bool:
    """Have it refer to what it is about as that is now, with what its steps need; False when it is held no more."""
    if operation.instance_id is None:
        return _read_other(operation)
    rows = _run(_instance_sql(), [operation.uuid, operation.lease_token])
    if not rows:
        return False
    values = iter(rows[0])
    instance, container, version = (
        _row(one, values) for one in (Instance, Container, ImageVersion)
    )
    container.version = version
    instance.container = container
    instance.pool = _row(Pool, values) if instance.pool_id is not None else None
    operation.instance = instance
    return True


def write(operation: Operation, changes: Mapping[str, Any], note: Note | None = None) -> bool:
    """Change an operation that is held, and add to its journal; False, and nothing is written, when it is held no more.

    `operation` is then as the row is, with what others wrote meanwhile; `is_due`: it could be taken at once.
    """
    table, values = Operation._meta.db_table, list[Any]()
    sets = ", ".join(
        f"{_column(name)} = {_placed(name, to, values)}" for name, to in changes.items()
    )
    written = (
        f"UPDATE {table} SET {sets} WHERE uuid = %s AND lease_token = %s AND state = '{State.ACTIVE}'"
        f" RETURNING {_columns(Operation)}, run_at <= STATEMENT_TIMESTAMP() AS is_due"
    )
    values += [operation.uuid, operation.lease_token]
    if note is not None:
        written = (
            f"WITH written AS ({written}), noted AS ({_noted(note, values)}) SELECT * FROM written"
        )
    rows = _run(written, values)
    for row in rows:
        fresh = iter(row)
        for name, value in _values(Operation, fresh):
            setattr(operation, name, value)
        operation.is_due = next(fresh)
    return bool(rows)


def _noted(note: Note, values: list[Any]) -> str:
    message = note.message.text if isinstance(note.message, Sql) else "%s"
    values += [note.what.value, note.step, note.attempt]
    values += note.message.values if isinstance(note.message, Sql) else [note.message]
    return (
        f"INSERT INTO {OperationEvent._meta.db_table} (operation_id, what, step, attempt, message, private)"
        f" SELECT uuid, %s, %s, %s, {message}, '' FROM written"
    )


def _read_other(operation: Operation) -> bool:
    relations = WITH_POOL[operation.subject_name]
    heavy = [f"{name}__{one}" for name in relations if name.endswith("pool") for one in HEAVY]
    held = Operation.objects.select_related(*relations).defer(*heavy).order_by()
    found = held.filter(uuid=operation.uuid, lease_token=operation.lease_token).first()
    if found is None:
        return False
    setattr(operation, operation.subject_name, found.subject)
    return True


@cache
def _instance_sql() -> str:
    return (
        f"SELECT {_columns(Instance, 'i')}, {_columns(Container, 'c')}, {_columns(ImageVersion, 'v')},"
        f" {_columns(Pool, 'p')} FROM {Operation._meta.db_table} o"
        f" JOIN {Instance._meta.db_table} i ON i.uuid = o.instance_id"
        f" JOIN {Container._meta.db_table} c ON c.uuid = i.container_id"
        f" JOIN {ImageVersion._meta.db_table} v ON v.uuid = c.version_id"
        f" LEFT JOIN {Pool._meta.db_table} p ON p.uuid = i.pool_id"
        " WHERE o.uuid = %s AND o.lease_token = %s"
    )


# ------------------------------------------------------------------------------------------------ rows


def _run(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


@cache
def _fields(model: type[models.Model]) -> tuple[models.Field[Any, Any], ...]:
    return tuple(field for field in model._meta.concrete_fields if field.name not in HEAVY)


@cache
def _columns(model: type[models.Model], alias: str = "") -> str:
    prefix = f"{alias}." if alias else ""
    return ", ".join(f'{prefix}"{field.column}"' for field in _fields(model))


@cache
def _column(name: str) -> str:
    return f'"{Operation._meta.get_field(name).column}"'  # type: ignore[union-attr]


def _placed(name: str, value: Any, values: list[Any]) -> str:
    if isinstance(value, Sql):
        values += value.values
        return value.text
    field: Any = Operation._meta.get_field(name)
    values.append(field.get_db_prep_save(value, connection))
    return "%s"


def _values(model: type[models.Model], row: Iterator[Any]) -> Iterator[tuple[str, Any]]:
    """What the model calls its columns, and their values as its fields make them."""
    for field in _fields(model):
        value = next(row)
        for convert in field.get_db_converters(connection):
            value = convert(value, field.cached_col, connection)
        yield field.attname, value


def _row(model: Any, row: Iterator[Any]) -> Any:
    names, values = zip(*_values(model, row), strict=True)
    return model.from_db(connection.alias, names, values)
