"""A VM's database row as text, as snapshots keep it in snapshot_metadata.

The form is the daemon's: pairs of column and stored value, quoted, last column first; recorded:
snapshot_revert. Reverting reads it back.
"""

from __future__ import annotations

from typing import Any

from deploy.lab.database import Row
from deploy.lab.schema import SCHEMA, Type
from deploy.lab.where import column, marshal, quote
from deploy.lab.wire import parse_date


def to_text(vm: Row) -> str:
    """Every column of the row, its reference included."""
    stored = {column("VM", name): marshal(value) for name, value in vm.fields.items()}
    stored["_ref"] = vm.ref
    pairs = (f"({quote(name)} {quote(stored[name])})" for name in sorted(stored, reverse=True))
    return f"({' '.join(pairs)})"


def from_text(text: str) -> dict[str, Any]:
    """The fields of a text that `to_text` made."""
    fields = {column("VM", name): field for name, field in SCHEMA.classes["VM"].fields.items()}
    pairs = (pair for pair in _parse(text) if pair[0] in fields)
    return {fields[name].name: _unmarshal(fields[name].type, stored) for name, stored in pairs}


def _unmarshal(kind: Type, stored: str) -> Any:
    match kind.t:
        case "int":
            return int(stored)
        case "float":
            return float(stored)
        case "bool":
            return stored == "true"
        case "datetime":
            return parse_date(stored)
        case "set":
            assert kind.of is not None
            return [_unmarshal(kind.of, member) for member in _parse(stored)]
        case "map":
            assert kind.key is not None
            assert kind.value is not None
            return {
                _unmarshal(kind.key, key): _unmarshal(kind.value, value)
                for key, value in _parse(stored)
            }
        case _:
            return stored


def _parse(text: str) -> list[Any]:
    """Nested lists of strings from "(('a' 'b') 'c')"."""
    stack: list[list[Any]] = [[]]
    position = 0
    while position < len(text):
        mark = text[position]
        position += 1
        if mark == "(":
            stack.append([])
        elif mark == ")":
            done = stack.pop()
            stack[-1].append(done)
        elif mark == "'":
            letters = []
            while text[position] != "'":
                position += text[position] == "\\"
                letters.append(text[position])
                position += 1
            position += 1
            stack[-1].append("".join(letters))
    parsed: list[Any] = stack[0][0]
    return parsed
