"""The expressions of `get_all_where` and `get_all_records_where`.

Grammar, as recorded (where_expressions): `field "column" = "value"`, `true`, `false`, `not`,
`and`, `or`, parentheses. `and` and `or` bind equally and to the left; `not` takes everything to
its right. Columns are the database's: grouped fields carry a double underscore (`name__label`),
values are compared in their stored text form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.wire import format_date

_TOKEN = re.compile(r'\s*(?:(field|and|or|not|true|false|[()=])|"((?:[^"\\]|\\.)*)")')

_GROUPS = ("name", "memory", "VCPUs", "actions", "PV", "HVM", "API_version", "qos", "io")
_UNGROUPED = frozenset(
    {
        *(
            f"{cls}.{field}"
            for cls in ("pool", "role")
            for field in ("name_label", "name_description")
        ),
        *(f"VM_guest_metrics.PV_drivers_{what}" for what in ("version", "up_to_date", "detected")),
    }
)
"""Fields that begin like a group's and are declared outside of any (xen-api datamodel.ml)."""

_Test = Callable[[Row], bool]


@dataclass(frozen=True)
class Expression:
    matches: _Test

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Raises INVALID_VALUE with the daemon's parser's complaint."""
        parser = _Parser(text)
        test = parser.expression()
        if parser.peek() is not None:
            parser.refuse()
        return cls(test)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.position = 0

    def _tokens(self) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while self.text[position:].strip():
            match = _TOKEN.match(self.text, position)
            if match is None:
                raise XapiError("INVALID_VALUE", self.text, 'Failure("lexing: empty token")')
            word, quoted = match.groups()
            tokens.append((word, "") if word else ('"', re.sub(r"\\(.)", r"\1", quoted)))
            position = match.end()
        return tokens

    def refuse(self) -> Any:
        raise XapiError(
            "INVALID_VALUE", self.text, "Xapi_database.Db_filter_parse.MenhirBasics.Error"
        )

    def peek(self) -> str | None:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else None

    def take(self, *expected: str) -> tuple[str, str]:
        if self.peek() not in expected:
            self.refuse()
        self.position += 1
        return self.tokens[self.position - 1]

    def expression(self) -> _Test:
        left = self.term()
        while self.peek() in ("and", "or"):
            operator, _ = self.take("and", "or")
            left = _both(left, self.term()) if operator == "and" else _either(left, self.term())
        return left

    def term(self) -> _Test:
        match self.peek():
            case "(":
                self.take("(")
                inner = self.expression()
                self.take(")")
                return inner
            case "not":
                self.take("not")
                return _negation(self.expression())
            case "true" | "false":
                truth = self.take("true", "false")[0] == "true"
                return lambda row: truth
            case _:
                left = self.value()
                self.take("=")
                right = self.value()
                return lambda row: left(row) == right(row)

    def value(self) -> Callable[[Row], str]:
        kind, text = self.take("field", '"')
        if kind == '"':
            return lambda row: text
        column = self.take('"')[1]
        return lambda row: _stored(row, column)


def _both(left: _Test, right: _Test) -> _Test:
    return lambda row: left(row) and right(row)


def _either(left: _Test, right: _Test) -> _Test:
    return lambda row: left(row) or right(row)


def _negation(inner: _Test) -> _Test:
    return lambda row: not inner(row)


def _stored(row: Row, name: str) -> str:
    if name == "_ref":
        return row.ref
    field = name.replace("__", "_")
    if field not in row.fields or column(row.cls, field) != name:
        raise XapiError("INTERNAL_ERROR", "missing field", name, "")
    return marshal(row.fields[field])


def column(cls: str, field: str) -> str:
    """The database's name of a field: VM.name_label is name__label."""
    for group in _GROUPS:
        if field.startswith(group + "_") and f"{cls}.{field}" not in _UNGROUPED:
            return f"{group}__{field[len(group) + 1 :]}"
    return field


def quote(text: str) -> str:
    """A string inside a stored set or map."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def marshal(value: Any) -> str:
    """A field's value as the database stores it."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.15g}"
        case datetime():
            return format_date(value)
        case list():
            return "(" + " ".join(quote(marshal(member)) for member in value) + ")"
        case dict():
            pairs = " ".join(f"({quote(key)} {quote(marshal(v))})" for key, v in value.items())
            return f"({pairs})"
        case _:
            return str(value)
