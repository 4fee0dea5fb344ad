"""XAPI values on the wire: typed decoding of arguments, encoding to XML-RPC and JSON.

Inside the lab a value is plain Python: str (also enums and references), int, float, bool,
datetime (UTC), list and dict. XAPI's XML-RPC sends ints as decimal strings (FACTS 1), JSON-RPC
as numbers. Wording of the parse failures: recorded, method_errors and jsonrpc_edge.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from deploy.lab.errors import XapiError, failure
from deploy.lab.schema import SCHEMA, Type

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = range(-(2**63), 2**63)
_OCAML_INT = re.compile(
    r"-?(?:0[xX][0-9a-fA-F][0-9a-fA-F_]*|0[oO][0-7][0-7_]*|0[bB][01][01_]*|[0-9][0-9_]*)"
)


class Int32(int):
    """One of the few numbers that XML-RPC carries as a number and not as text."""


class Malformed(Exception):
    """The request is no call at all; `detail` is what the daemon's parser said."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


# --- typed decoding ------------------------------------------------------------------------


def decode(kind: Type, value: Any) -> Any:
    """Check one argument against its type; raise the daemon's INTERNAL_ERROR if it does not fit."""
    match kind.t:
        case "string" | "ref":
            return value if isinstance(value, str) else _refuse("string", value)
        case "int":
            return _decode_int(value)
        case "bool":
            return value if isinstance(value, bool) else _refuse("bool", value)
        case "float":
            return _decode_float(value)
        case "enum":
            return _decode_enum(kind, value)
        case "datetime":
            return _decode_datetime(value)
        case "set":
            if not isinstance(value, list):
                raise failure(f"Expecting Rpc.Enum, but found '{describe(value)}'")
            assert kind.of is not None
            return [decode(kind.of, member) for member in value]
        case "map":
            if not isinstance(value, dict):
                raise failure(f"Expecting Rpc.Dict, but found '{describe(value)}'")
            assert kind.key is not None
            assert kind.value is not None
            return {decode(kind.key, k): decode(kind.value, v) for k, v in value.items()}
        case "record":
            if not isinstance(value, dict):
                raise failure(f"Expecting Rpc.Dict, but found '{describe(value)}'")
            return value
        case _:
            raise AssertionError(kind)


def _refuse(expected: str, value: Any) -> Any:
    raise failure(f"Expected {expected}, got '{describe(value)}'")


def _decode_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        _refuse("int64", value)
    if isinstance(value, str):
        if not _OCAML_INT.fullmatch(value):
            raise failure("Int64.of_string")
        value = int(value.replace("_", ""), 0 if value.lstrip("-")[:2].lower() in _BASES else 10)
    if value not in _INT64:
        raise failure("Int64.of_string")
    return int(value)


_BASES = {"0x", "0o", "0b"}


def _decode_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        _refuse("float", value)
    try:
        return float(value)
    except ValueError:
        raise failure("float_of_string") from None


def _decode_enum(kind: Type, value: Any) -> str:
    if not isinstance(value, str):
        raise failure("Unknown tag/contents")
    # Enumeration members are matched without regard to case by the daemon's marshaller.
    if value in SCHEMA.enums[kind.name]:
        return value
    lowered = value.lower()
    for member in SCHEMA.enums[kind.name]:
        if member.lower() == lowered:
            return member
    raise failure("Unknown tag/contents")


def _decode_datetime(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return parse_date(value)
    _refuse("datetime", value)
    raise AssertionError


def parse_date(text: str) -> datetime:
    for form in ("%Y%m%dT%H:%M:%SZ", "%Y%m%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise XapiError("INTERNAL_ERROR", f'Invalid_argument("{text}")')


def describe(value: Any) -> str:
    """Write a wire value as the daemon's error texts do: I(17), S(x), [S(a);S(b)], {k:S(v)}."""
    match value:
        case None:
            return "N"
        case bool():
            return f"B({str(value).lower()})"
        case int():
            return f"I({value})"
        case float():
            return f"F({value:g})"
        case str():
            return f"S({value})"
        case datetime():
            return f"D({value:%Y%m%dT%H:%M:%SZ})"
        case list():
            return "[" + ";".join(describe(member) for member in value) + "]"
        case dict():
            return "{" + ";".join(f"{key}:{describe(v)}" for key, v in value.items()) + "}"
        case _:
            return str(value)


# --- encoding ------------------------------------------------------------------------------


def to_xml(value: Any) -> str:
    """One <value> element."""
    match value:
        case bool():
            return f"<value><boolean>{int(value)}</boolean></value>"
        case str():
            return f"<value>{_escape(value)}</value>"
        case Int32():
            return f"<value><i4>{value}</i4></value>"
        case int():
            return f"<value>{value}</value>"
        case float():
            return f"<value><double>{_double(value)}</double></value>"
        case dict():
            members = "".join(
                f"<member><name>{_escape(str(key))}</name>{to_xml(member)}</member>"
                for key, member in value.items()
            )
            return f"<value><struct>{members}</struct></value>"
        case list() | tuple():
            members = "".join(map(to_xml, value))
            return f"<value><array><data>{members}</data></array></value>"
        case None:
            return "<value></value>"
        case datetime():
            date = format_date(value)
            return f"<value><dateTime.iso8601>{date}</dateTime.iso8601></value>"
        case Encoded():
            return value.xml
        case _:
            raise TypeError(value)


def _escape(text: str) -> str:
    if "&" in text or "<" in text or ">" in text or '"' in text:
        return escape(text, {'"': "&quot;"})
    return text


def _double(value: float) -> str:
    if not math.isfinite(value):
        return repr(value)
    return f"{value:.1f}" if value == int(value) and abs(value) < 1e15 else repr(value)


def format_date(value: datetime) -> str:
    return value.strftime("%Y%m%dT%H:%M:%SZ")


class Encoded:
    """A record already written in both wire forms, each made at most once."""

    __slots__ = ("_json", "_xml", "value")

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value
        self._xml: str | None = None
        self._json: str | None = None

    @property
    def xml(self) -> str:
        if self._xml is None:
            self._xml = to_xml(self.value)
        return self._xml

    @property
    def json(self) -> str:
        if self._json is None:
            self._json = to_json(self.value)
        return self._json


def to_json(value: Any) -> str:
    match value:
        case Encoded():
            return value.json
        case dict():
            return "{" + ",".join(f"{_quote(str(k))}:{to_json(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(to_json, value)) + "]"
        case bool() | int():
            return json.dumps(value)
        case float():
            return _double(value) if math.isfinite(value) else json.dumps(value)
        case str():
            return _quote(value)
        case None:
            return '""'
        case datetime():
            return _quote(format_date(value))
        case _:
            raise TypeError(value)


_quote = json.JSONEncoder(ensure_ascii=False).encode


# --- XML-RPC requests ----------------------------------------------------------------------


def parse_call(body: bytes) -> tuple[str, list[Any]]:
    """Read a <methodCall>: its name and arguments. Raises Malformed."""
    parser = _CallParser()
    try:
        parser.expat.Parse(body, True)
    except expat.ExpatError as error:
        raise Malformed(_xmlm_error(body, error)) from None
    if parser.method is None:
        raise Malformed("Xmlm.Error(1:1, &quot;expected root element&quot;)")
    return parser.method, parser.arguments


def _xmlm_error(body: bytes, error: expat.ExpatError) -> str:
    if not body.strip():
        return "Xmlm.Error(1:1, &quot;unexpected end of input&quot;)"
    if not body.lstrip().startswith(b"<"):
        return "Xmlm.Error(1:1, &quot;expected root element&quot;)"
    return f"Xmlm.Error({error.lineno}:{error.offset + 1}, &quot;malformed character stream&quot;)"


def _parse_error(found: str, expected: str) -> Malformed:
    return Malformed(f"Xmlrpc.Parse_error(&quot;{found}&quot;, &quot;{expected}&quot;, _)")


_AFTER_TEXT = {"name": "value", "methodName": "params"}


class _CallParser:
    """Builds plain values from the events of a non-validating parser; entities are not expanded."""

    def __init__(self) -> None:
        self.method: str | None = None
        self.arguments: list[Any] = []
        self._stack: list[Any] = []
        self._names: list[str] = []
        self._text: list[str] = []
        self._typed = False
        self._entered = False
        self.expat = expat.ParserCreate()
        self.expat.buffer_text = True
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end
        self.expat.CharacterDataHandler = self._text.append
        self.expat.EntityDeclHandler = self._refuse_entity

    @staticmethod
    def _refuse_entity(*_: Any) -> None:
        raise Malformed("Xmlm.Error(1:1, &quot;unknown entity reference&quot;)")

    def _start(self, tag: str, _: dict[str, str]) -> None:
        if not self._entered:
            if tag != "methodCall":
                raise _parse_error(f"open_tag({tag})", "open_tag(methodCall)")
            self._entered = True
        self._text.clear()
        if tag == "struct":
            self._stack.append({})
        elif tag == "data":
            self._stack.append([])
        elif tag == "value":
            self._typed = False

    def _end(self, tag: str) -> None:
        text = "".join(self._text)
        if tag == "value":
            if not self._typed:
                self._stack.append(text)
            self._typed = False
            self._place(self._stack.pop())
        elif tag in _SCALARS:
            try:
                self._stack.append(_SCALARS[tag](text))
            except ValueError:
                raise Malformed(f"Failure(&quot;{tag}&quot;)") from None
            self._typed = True
        elif tag in ("struct", "array"):
            self._typed = True
        elif tag in ("name", "methodName"):
            if not text:
                # The daemon's parser finds no text where it expects some (recorded: method_errors).
                raise _parse_error(f"open_tag({_AFTER_TEXT[tag]})", f"close_tag({tag})")
            if tag == "name":
                self._names.append(text)
            else:
                self.method = text
        self._text.clear()

    def _place(self, value: Any) -> None:
        if not self._stack:
            self.arguments.append(value)
        elif isinstance(self._stack[-1], dict):
            self._stack[-1][self._names.pop()] = value
        else:
            self._stack[-1].append(value)
        # A value that holds containers was marked typed by its own end tag; its parent is not yet.
        self._typed = False


_SCALARS: dict[str, Any] = {
    "string": str,
    "int": int,
    "i4": int,
    "i8": int,
    "boolean": lambda text: bool(int(text)),
    "double": float,
    "dateTime.iso8601": lambda text: parse_date(text),
    "nil": lambda text: None,
}
