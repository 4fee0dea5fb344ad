"""The lab serves the published datamodel: every class, field, message, role and error of it.

The published form is read from ../shared/xapi/datamodel.json, or from where
BULKHEAD_XAPI_DATAMODEL says; without it these tests are skipped.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.replay.wire import Answer, Endpoint
from deploy.lab.schema import SCHEMA, Type
from deploy.lab.sessions import Account
from deploy.lab.testing import running_lab

ROOT = Path(__file__).parents[3]
LAB = ROOT / "deploy" / "lab"
DATAMODEL = Path(
    os.environ.get("BULKHEAD_XAPI_DATAMODEL", ROOT.parent / "shared" / "xapi" / "datamodel.json")
)

pytestmark = pytest.mark.skipif(
    not DATAMODEL.is_file(),
    reason=f"no published datamodel at {DATAMODEL}; set BULKHEAD_XAPI_DATAMODEL to test against it",
)

WEAKEST_FIRST = [
    "read-only",
    "client-cert",
    "vm-operator",
    "vm-admin",
    "vm-power-admin",
    "pool-operator",
]
"""Roles below pool-admin."""

PASSWORD = "of the tests alone"
MADE_UP = "OpaqueRef:00000000-1111-2222-3333-444444444444"

NOT_PUBLISHED = {"Fault", "SR_NO_PBDS"}
"""What the daemon answers though its datamodel does not say so: seen recorded (method_errors), and
from its sources (xapi_sr_operations.ml)."""


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DATAMODEL.read_text())
    return content


class Pool:
    """A running lab and a session for every role."""

    def __init__(self, url: str, password: str) -> None:
        self.endpoint = Endpoint(url)
        self.sessions = {"pool-admin": self._log_in("root", password)}
        for role in WEAKEST_FIRST:
            self.sessions[role] = self._log_in(role, PASSWORD)

    def _log_in(self, user: str, password: str) -> str:
        answer = self.endpoint.call(
            "session.login_with_password", [user, password, "2.21", "datamodel"]
        )
        assert isinstance(answer.result, str), answer
        return answer.result

    def answer(self, method: str, *args: Any, role: str = "pool-admin") -> Answer:
        return self.endpoint.call(method, [self.sessions[role], *args])

    def call(self, method: str, *args: Any) -> Any:
        answer = self.answer(method, *args)
        assert answer.error is None, (method, answer.error)
        assert answer.transport is None, (method, answer.transport)
        return answer.result


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    accounts = {role: Account(PASSWORD, role=role) for role in WEAKEST_FIRST}
    with running_lab(hosts=2, tls=False, rate=50.0, accounts=accounts) as lab:
        pool = Pool(lab.urls[0], lab.password)
        yield pool
        pool.endpoint.close()


def messages(published: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for cls in published["classes"]:
        for message in cls["messages"]:
            yield f"{cls['name']}.{message['name']}", message


def is_removed(message: Mapping[str, Any]) -> bool:
    return (message.get("lifecycle") or {}).get("state") == "Removed_s"


# --- the schema that the lab is driven by ----------------------------------------------------------


def test_every_class_is_served(published: dict[str, Any]) -> None:
    ours = {
        name: (cls.has_events, cls.in_database, cls.persist) for name, cls in SCHEMA.classes.items()
    }
    assert ours == {
        cls["name"]: (cls["gen_events"], cls["in_database"], cls["persist"])
        for cls in published["classes"]
    }


def test_every_field_has_its_type_qualifier_default_and_roles(published: dict[str, Any]) -> None:
    ours = {
        f"{name}.{field.name}": (
            field.type,
            field.qualifier,
            (field.has_default, field.default),
            field.internal,
            field.setter_roles,
            dict(field.key_roles),
        )
        for name, cls in SCHEMA.classes.items()
        for field in cls.fields.values()
    }
    theirs = {
        f"{cls['name']}.{field['name']}": (
            Type.parse(field["ty"]),
            field["qualifier"],
            (field["has_default"], field["default"] if field["has_default"] else None),
            field["internal_only"],
            _roles(field["setter_roles"]),
            field["map_keys_roles"],
        )
        for cls in published["classes"]
        for field in cls["fields"]
    }
    assert ours == theirs


def test_every_message_has_its_parameters_result_roles_and_errors(
    published: dict[str, Any],
) -> None:
    ours = {
        name: (
            [(p.name, p.type, p.required, p.default) for p in message.parameters],
            message.result,
            message.kind,
            (message.is_async, message.needs_session, message.removed, message.pool_internal),
            message.roles,
            message.errors,
        )
        for name, message in SCHEMA.messages.items()
    }
    theirs = {
        name: (
            [
                (p["name"], Type.parse(p["ty"]), p["required"], _default_of(p))
                for p in message["params"]
            ],
            Type.parse(message["result"]["ty"]) if message["result"] else None,
            message["kind"],
            (message["async"], message["session"], is_removed(message), message["pool_internal"]),
            _roles(message["roles"]),
            tuple(message["errors"]),
        )
        for name, message in messages(published)
    }
    assert ours == theirs


def _default_of(parameter: Mapping[str, Any]) -> Any:
    return None if parameter["required"] else parameter["default"]


def _roles(names: list[str] | None) -> frozenset[str]:
    """Messages without roles may be called by everyone."""
    return frozenset(["pool-admin", *WEAKEST_FIRST]) if names is None else frozenset(names)


def test_enums_relations_errors_and_emergency_calls_are_the_published_ones(
    published: dict[str, Any],
) -> None:
    assert {name: set(members) for name, members in SCHEMA.enums.items()} == {
        name: {member["name"] for member in members} for name, members in published["enums"].items()
    }
    assert set(SCHEMA.relations) == {(r["one"], r["many"]) for r in published["relations"]}
    described = {error["name"]: error["params"] for error in published["errors"]}
    undescribed: dict[str, list[str]] = {
        name: [] for name in published["error_codes_without_description"]
    }
    assert dict(SCHEMA.errors) == described | undescribed
    assert set(SCHEMA.emergency_calls) == set(published["emergency_calls"])


# --- what the sources can raise --------------------------------------------------------------------


def raised_codes(source: str) -> Iterator[str]:
    """Error codes that a module names: first arguments of XapiError, and constants returned for it."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        first = node.args[0]
        if name != "XapiError":
            continue
        for part in ast.walk(first):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


def test_the_scan_of_sources_finds_codes_wherever_they_are_chosen() -> None:
    source = 'raise XapiError("A_B", x)\nraise errors.XapiError("C_D" if x else f"E_F_{n}")'
    assert set(raised_codes(source)) == {"A_B", "C_D", "E_F_"}


def test_every_error_that_the_lab_can_raise_is_published() -> None:
    unknown = {
        f"{path.relative_to(ROOT)}: {code}"
        for path in sorted(LAB.rglob("*.py"))
        if "tests" not in path.parts and "replay" not in path.parts
        for code in raised_codes(path.read_text())
        if code not in SCHEMA.errors
        and code not in NOT_PUBLISHED
        and not code.startswith("SR_BACKEND_FAILURE_")
    }
    assert unknown == set()


# --- a running lab -----------------------------------------------------------------------------------


def test_the_methods_listed_are_the_published_ones(pool: Pool, published: dict[str, Any]) -> None:
    listed = pool.call("system.listMethods")
    assert sorted(listed) == sorted(name for name, _ in messages(published))


def test_async_is_there_exactly_where_published(pool: Pool, published: dict[str, Any]) -> None:
    wrong = []
    for name, message in messages(published):
        if is_removed(message) or not message["session"] or message["pool_internal"]:
            continue
        answer = pool.answer(f"Async.{name}", *_arguments(message), role="read-only")
        code = answer.error[0] if answer.error else "a task"
        if (code == "Fault") is message["async"]:
            wrong.append((name, code))
    assert wrong == []


def test_records_have_exactly_the_published_fields_of_the_published_types(
    pool: Pool, published: dict[str, Any]
) -> None:
    _make_one_of_each(pool)
    met: set[str] = set()
    wrong: list[Any] = []
    for cls in published["classes"]:
        if not any(message["name"] == "get_all_records" for message in cls["messages"]):
            continue
        answer = pool.answer(f"{cls['name']}.get_all_records")
        for ref, listed in (answer.result or {}).items():
            met.add(cls["name"])
            record = pool.answer(f"{cls['name']}.get_record", ref).result
            if record is None:
                continue  # a task of ours, over by now
            fields = {f["name"]: f["ty"] for f in cls["fields"] if not f["internal_only"]}
            if set(record) != set(fields) or set(listed) != set(fields):
                wrong.append((cls["name"], sorted(set(record) ^ set(fields))))
            wrong += [
                (cls["name"], name, fields[name], value)
                for name, value in record.items()
                if name in fields and not is_of_type(value, fields[name])
            ]
    assert wrong == []
    assert {"VM", "VBD", "VIF", "VDI", "SR", "PBD", "host", "pool", "network", "PIF"} <= met


def is_of_type(value: Any, ty: Mapping[str, Any]) -> bool:
    """Whether a value has the wire form of an XAPI type (XAPI.md 1: ints travel as strings)."""
    kind = ty["t"]
    if kind == "int":
        return isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
    if kind in ("float", "bool"):
        return type(value) is {"float": float, "bool": bool}[kind]
    if kind == "datetime":
        return isinstance(value, dict) and set(value) == {"$dateTime"}
    if kind == "ref":
        return isinstance(value, str) and value.startswith(("OpaqueRef:", "DummyRef:"))
    if kind == "set":
        return isinstance(value, list) and all(is_of_type(member, ty["of"]) for member in value)
    if kind == "map":
        return isinstance(value, dict) and all(
            isinstance(key, str) and is_of_type(member, ty["value"])
            for key, member in value.items()
        )
    return isinstance(value, str)


def _make_one_of_each(pool: Pool) -> None:
    network = next(iter(pool.call("network.get_all")))
    storage = next(
        ref for ref, sr in pool.call("SR.get_all_records").items() if sr["type"] == "nfs"
    )
    base = next(iter(pool.call("VM.get_all_records").values()))
    settable = {f.name for f in SCHEMA.classes["VM"].public_fields if f.qualifier != "RO/runtime"}
    vm = pool.call(
        "VM.create",
        {key: value for key, value in base.items() if key in settable}
        | {"name_label": "one", "is_a_template": False},
    )
    disk = {"name_label": "one", "SR": storage, "virtual_size": "4194304", "type": "user"}
    plain = {"sharable": False, "read_only": False, "other_config": {}}
    vdi = pool.call("VDI.create", disk | plain)
    qos: dict[str, Any] = {"qos_algorithm_type": "", "qos_algorithm_params": {}}
    drive = {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW"}
    empty = {"type": "Disk", "empty": False, "unpluggable": True, "other_config": {}}
    pool.call("VBD.create", drive | empty | qos)
    card = {"VM": vm, "network": network, "device": "0", "MAC": "", "MTU": "1500"}
    pool.call("VIF.create", card | {"other_config": {}} | qos)


def test_fields_that_are_not_writable_have_no_setters(
    pool: Pool, published: dict[str, Any]
) -> None:
    served = {name for name, _ in messages(published)}
    wrong = []
    for cls in published["classes"]:
        for field in cls["fields"]:
            setter = f"{cls['name']}.set_{field['name']}"
            if setter in served or field["internal_only"]:
                continue
            error = pool.answer(setter, MADE_UP, "").error
            if error != ["MESSAGE_METHOD_UNKNOWN", setter]:
                wrong.append((setter, error))
    assert wrong == []


def test_every_message_is_refused_to_roles_that_are_not_published_for_it(
    pool: Pool, published: dict[str, Any]
) -> None:
    wrong = []
    for name, message in messages(published):
        if is_removed(message) or not message["session"]:
            continue
        denied = [role for role in WEAKEST_FIRST if role not in _roles(message["roles"])]
        if not denied:
            continue
        error = pool.answer(name, *_arguments(message), role=denied[-1]).error
        refusals = ["RBAC_PERMISSION_DENIED", *["INTERNAL_ERROR"] * message["pool_internal"]]
        if not error or error[0] not in refusals:
            wrong.append((name, denied[-1], error))
    assert wrong == []


def test_every_getter_is_open_to_the_weakest_role_published_for_it(
    pool: Pool, published: dict[str, Any]
) -> None:
    wrong = []
    for name, message in messages(published):
        if is_removed(message) or not message["kind"].startswith(("field_get", "get_")):
            continue
        allowed = [role for role in WEAKEST_FIRST if role in _roles(message["roles"])]
        if not allowed:
            continue
        error = pool.answer(name, *_arguments(message), role=allowed[0]).error
        if error and error[0] == "RBAC_PERMISSION_DENIED":
            wrong.append((name, allowed[0]))
    assert wrong == []


def _arguments(message: Mapping[str, Any]) -> list[Any]:
    """Well-typed arguments that name nothing that exists."""
    return [_value(p["ty"]) for p in message["params"] if p["required"]]


def _value(ty: Mapping[str, Any]) -> Any:
    kind = ty["t"]
    if kind == "enum":
        return next(iter(sorted(SCHEMA.enums[ty["name"]])))
    values: dict[str, Any] = {
        "string": "x",
        "int": "1",
        "float": 1.0,
        "bool": False,
        "datetime": {"$dateTime": "20260101T00:00:00Z"},
        "ref": MADE_UP,
        "set": [],
        "map": {},
    }
    return values.get(kind, {})
