"""The published XAPI datamodel (API 2.21), loaded: classes, fields, messages, enums, relations.

Everything generic in the lab is driven from here: record shapes, wire types, defaults, roles,
arities, back-references. `compile.py` makes `datamodel.json` from the publisher's form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

NULL = "OpaqueRef:NULL"
ALL_ROLES = frozenset(
    (
        "pool-admin",
        "pool-operator",
        "vm-power-admin",
        "vm-admin",
        "vm-operator",
        "client-cert",
        "read-only",
    )
)


@dataclass(frozen=True)
class Type:
    """An XAPI type: `t` is string, int, float, bool, datetime, ref, enum, set, map or record."""

    t: str
    name: str = ""
    of: Type | None = None
    key: Type | None = None
    value: Type | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Type:
        def inner(part: str) -> Type | None:
            return cls.parse(raw[part]) if part in raw else None

        return cls(
            raw["t"],
            raw.get("class") or raw.get("name") or "",
            inner("of"),
            inner("key"),
            inner("value"),
        )

    @cached_property
    def empty(self) -> Any:
        """The value a field of this type has when nothing else says (never a shared mutable)."""
        return {
            "string": "",
            "int": 0,
            "float": 0.0,
            "bool": False,
            "datetime": None,
            "ref": NULL,
            "set": [],
            "map": {},
        }.get(self.t, "")


@dataclass(frozen=True)
class Field:
    """A field of a class. `qualifier` is RW, RO/constructor or RO/runtime."""

    name: str
    type: Type
    qualifier: str
    has_default: bool
    default: Any
    internal: bool
    setter_roles: frozenset[str]
    key_roles: Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    name: str
    type: Type
    required: bool
    default: Any


@dataclass(frozen=True)
class Message:
    """A call, `cls.name`; `kind` says whether the daemon generates it (get_record, field_set…)."""

    cls: str
    name: str
    kind: str
    is_async: bool
    needs_session: bool
    removed: bool
    pool_internal: bool
    parameters: tuple[Parameter, ...]
    result: Type | None
    roles: frozenset[str]
    errors: tuple[str, ...]

    @cached_property
    def full_name(self) -> str:
        return f"{self.cls}.{self.name}"

    @cached_property
    def required(self) -> int:
        return sum(parameter.required for parameter in self.parameters)


@dataclass(frozen=True)
class Class:
    name: str
    has_events: bool
    in_database: bool
    persist: bool
    fields: Mapping[str, Field]
    messages: Mapping[str, Message]

    @cached_property
    def public_fields(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields.values() if not field.internal)


@dataclass(frozen=True)
class Schema:
    classes: Mapping[str, Class]
    messages: Mapping[str, Message]
    enums: Mapping[str, frozenset[str]]
    relations: tuple[tuple[str, str], ...]
    errors: Mapping[str, list[str]]
    emergency_calls: frozenset[str]
    alert_priorities: Mapping[str, int]


def _field(raw: Mapping[str, Any], types: list[Type], roles: list[frozenset[str]]) -> Field:
    return Field(
        name=raw["name"],
        type=types[raw["type"]],
        qualifier=raw["qualifier"],
        has_default="default" in raw,
        default=raw.get("default"),
        internal=raw.get("internal", False),
        setter_roles=roles[raw["setters"]],
        key_roles=raw.get("keys", {}),
    )


def _message(
    cls: str, raw: Mapping[str, Any], types: list[Type], roles: list[frozenset[str]]
) -> Message:
    return Message(
        cls=cls,
        name=raw["name"],
        kind=raw["kind"],
        is_async=raw.get("async", False),
        needs_session=raw.get("session", True),
        removed=raw.get("removed", False),
        pool_internal=raw.get("pool_internal", False),
        parameters=tuple(
            Parameter(p[0], types[p[1]], len(p) == 2, p[2] if len(p) == 3 else None)
            for p in raw["params"]
        ),
        result=types[raw["result"]] if "result" in raw else None,
        roles=roles[raw["roles"]],
        errors=tuple(raw.get("errors", ())),
    )


def load() -> Schema:
    raw = json.loads(Path(__file__).with_name("datamodel.json").read_text())
    types = [Type.parse(t) for t in raw["types"]]
    roles = [ALL_ROLES if names is None else frozenset(names) for names in raw["roles"]]
    classes = {
        c["name"]: Class(
            name=c["name"],
            has_events=c["events"],
            in_database=c["in_database"],
            persist=c["persist"],
            fields={f["name"]: _field(f, types, roles) for f in c["fields"]},
            messages={m["name"]: _message(c["name"], m, types, roles) for m in c["messages"]},
        )
        for c in raw["classes"]
    }
    return Schema(
        classes=classes,
        messages={m.full_name: m for c in classes.values() for m in c.messages.values()},
        enums={name: frozenset(members) for name, members in raw["enums"].items()},
        relations=tuple((one, many) for one, many in raw["relations"]),
        errors=raw["errors"] | {name: [] for name in raw["undescribed_errors"]},
        emergency_calls=frozenset(raw["emergency_calls"]),
        alert_priorities=raw["alert_priorities"],
    )


SCHEMA = load()
