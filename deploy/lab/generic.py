"""The messages that the daemon generates for every class: reading, finding, setting fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.schema import SCHEMA, Message
from deploy.lab.where import Expression
from deploy.lab.wire import decode

if TYPE_CHECKING:
    from deploy.lab.dispatch import Call


def execute(call: Call, values: list[Any]) -> Any:
    """Serve a message without a meaning of its own, by its kind."""
    meaning = _KINDS.get(call.message.kind)
    if meaning is None:
        parameters = call.message.parameters
        if (
            parameters
            and parameters[0].type.name == call.message.cls
            and parameters[0].type.t == "ref"
        ):
            _self(call, call.message, values)
        raise XapiError("NOT_IMPLEMENTED", call.message.full_name)
    return meaning(call, call.message, values)


def _self(call: Call, message: Message, values: list[Any]) -> Row:
    return call.db.get(message.cls, values[0])


def _get_record(call: Call, message: Message, values: list[Any]) -> Any:
    return _self(call, message, values).record


def _get_all(call: Call, message: Message, values: list[Any]) -> list[str]:
    return list(call.db.tables[message.cls].rows)


def _get_all_records(call: Call, message: Message, values: list[Any]) -> dict[str, Any]:
    return {ref: row.record for ref, row in call.db.tables[message.cls].rows.items()}


def _get_all_records_where(call: Call, message: Message, values: list[Any]) -> dict[str, Any]:
    return {row.ref: row.record for row in matching(call, message.cls, values[0])}


def _get_all_where(call: Call, message: Message, values: list[Any]) -> list[str]:
    return [row.ref for row in matching(call, message.cls, values[0])]


def matching(call: Call, cls: str, text: str) -> list[Row]:
    """The objects of a class that an expression is true of."""
    expression = Expression.parse(text)
    return [row for row in call.db.all(cls) if expression.matches(row)]


def _get_by_uuid(call: Call, message: Message, values: list[Any]) -> str:
    return call.db.by_uuid(message.cls, values[0]).ref


def _get_by_name_label(call: Call, message: Message, values: list[Any]) -> list[str]:
    return [row.ref for row in call.db.by_label(message.cls, values[0])]


def _field_get(call: Call, message: Message, values: list[Any]) -> Any:
    return _self(call, message, values).fields[message.name.removeprefix("get_")]


def _field_set(call: Call, message: Message, values: list[Any]) -> None:
    call.db.update(_self(call, message, values), **{message.name.removeprefix("set_"): values[1]})


def _field_add(call: Call, message: Message, values: list[Any]) -> None:
    """add_to_X of a map (MAP_DUPLICATE_KEY), add_X of a set (adding a member twice is one)."""
    row = _self(call, message, values)
    if len(values) == 3:
        add_to_map(call, row, message.name.removeprefix("add_to_"), values[1], values[2])
        return
    name = message.name.removeprefix("add_")
    if values[1] not in row.fields[name]:
        call.db.update(row, **{name: [*row.fields[name], values[1]]})


def add_to_map(call: Call, row: Row, name: str, key: str, value: Any) -> None:
    if key in row.fields[name]:
        raise XapiError("MAP_DUPLICATE_KEY", row.cls, name, row.ref, key)
    call.db.update(row, **{name: {**row.fields[name], key: value}})


def _field_remove(call: Call, message: Message, values: list[Any]) -> None:
    """remove_from_X of a map, remove_X of a set; nothing to remove is no error."""
    row = _self(call, message, values)
    name = message.name.removeprefix("remove_from_")
    if name == message.name:
        name = message.name.removeprefix("remove_")
        call.db.update(
            row, **{name: [member for member in row.fields[name] if member != values[1]]}
        )
        return
    remove_from_map(call, row, name, values[1])


def remove_from_map(call: Call, row: Row, name: str, key: str) -> None:
    call.db.update(row, **{name: {k: v for k, v in row.fields[name].items() if k != key}})


def constructor_values(message: Message, record: dict[str, Any]) -> dict[str, Any]:
    """Decode the record given to a `create`.

    Fields set by the constructor: RW and RO/constructor. One without a default that is missing is
    `Dispatcher_FieldNotFound`; unknown and read-only members are ignored (recorded:
    vm_create_fields, vm_create_full).
    """
    fields: dict[str, Any] = {}
    for field in SCHEMA.classes[message.cls].fields.values():
        if field.qualifier == "RO/runtime":
            continue
        if field.name in record:
            fields[field.name] = decode(field.type, record[field.name])
        elif not field.has_default:
            raise XapiError(
                "INTERNAL_ERROR", f'Server_helpers.Dispatcher_FieldNotFound("{field.name}")'
            )
    return fields


def _create(call: Call, message: Message, values: list[Any]) -> str:
    return call.db.create(message.cls, **constructor_values(message, values[0])).ref


def _destroy(call: Call, message: Message, values: list[Any]) -> None:
    call.db.delete(_self(call, message, values))


_KINDS = {
    "get_record": _get_record,
    "get_all": _get_all,
    "get_all_records": _get_all_records,
    "get_all_records_where": _get_all_records_where,
    "get_all_where": _get_all_where,
    "get_by_uuid": _get_by_uuid,
    "get_by_name_label": _get_by_name_label,
    "field_get": _field_get,
    "field_set": _field_set,
    "field_add": _field_add,
    "field_remove": _field_remove,
    "create": _create,
    "destroy": _destroy,
}
