"""Messages: the daemon's alerts, at most 10,000 of them (FACTS 12; recorded: messages)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.schema import SCHEMA
from deploy.lab.where import Expression

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

MOST_MESSAGES = 10_000
DEFAULT_PRIORITY = 3

_CLASSES = {"Host": "host", "Pool": "pool", "PVS_proxy": "PVS_proxy"}
"""Members of the enum cls whose class is written differently."""


def post(lab: Lab, name: str, cls: str, uuid: str, body: str, priority: int | None = None) -> Row:
    """Tell of something that happened to an object.

    `name` is an alert of the datamodel ("VM_STARTED") which has a priority of its own, `cls` a
    member of the enum cls ("VM", "Host", "SR", "Pool", …), `uuid` the object's.
    """
    if priority is None:
        priority = SCHEMA.alert_priorities.get(name, DEFAULT_PRIORITY)
    table = lab.db.tables["message"].rows
    while len(table) >= MOST_MESSAGES:
        lab.db.delete(next(iter(table.values())))
    return lab.db.create(
        "message",
        name=name,
        priority=priority,
        cls=cls,
        obj_uuid=uuid,
        timestamp=datetime.fromtimestamp(lab.clock.now(), UTC),
        body=body,
    )


def _latest_first(call: Call) -> list[Row]:
    return call.db.all("message")[::-1]


def _records(rows: list[Row]) -> dict[str, Any]:
    return {row.ref: row.record for row in rows}


@message("message.create")
def create(call: Call, name: str, priority: int, cls: str, uuid: str, body: str) -> str:
    if uuid not in call.db.tables[_CLASSES.get(cls, cls)].by_uuid:
        raise XapiError("UUID_INVALID", cls, uuid)
    return post(call.lab, name, cls, uuid, body, priority).ref


@message("message.destroy")
def destroy(call: Call, row: Row) -> None:
    call.db.delete(row)


@message("message.destroy_many")
def destroy_many(call: Call, refs: list[str]) -> None:
    for row in [call.db.get("message", ref) for ref in refs]:
        call.db.delete(row)


@message("message.get")
def get(call: Call, cls: str, uuid: str, since: datetime) -> dict[str, Any]:
    return _records(
        [
            row
            for row in _latest_first(call)
            if row.fields["cls"] == cls and row.obj_uuid == uuid and row.timestamp > since
        ]
    )


@message("message.get_since")
def get_since(call: Call, since: datetime) -> dict[str, Any]:
    return _records([row for row in _latest_first(call) if row.timestamp > since])


@message("message.get_all")
def get_all(call: Call) -> list[str]:
    return [row.ref for row in _latest_first(call)]


@message("message.get_all_records")
def get_all_records(call: Call) -> dict[str, Any]:
    return _records(_latest_first(call))


@message("message.get_all_records_where")
def get_all_records_where(call: Call, expr: str) -> dict[str, Any]:
    """Messages are outside the database: of one without the field asked for nothing is true."""
    expression = Expression.parse(expr)
    return _records([row for row in _latest_first(call) if _is_true(expression, row)])


def _is_true(expression: Expression, row: Row) -> bool:
    try:
        return expression.matches(row)
    except XapiError:
        return False


@message("message.get_record")
def get_record(call: Call, row: Row) -> Any:
    return row.record


@message("message.get_by_uuid")
def get_by_uuid(call: Call, uuid: str) -> str:
    return call.db.by_uuid("message", uuid).ref
