"""A snapshot's copy of its VM's record: an s-expression of quoted fields and values."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r"""\s*(?:([()])|'((?:[^'\\]|\\.)*)')""", re.DOTALL)


def fields(text: str) -> dict[str, Any] | None:
    """The fields with their values as records write them; None when the text is no such copy.

    Sets are lists, maps are dictionaries, everything else stays text. Random numbers
    (`generation_id`) become the name that stands for them elsewhere.
    """
    parsed = _parse(text)
    pairs = _as_map(parsed)
    if pairs is None:
        return None
    record = {name.replace("__", "_"): _value(value) for name, value in pairs.items()}
    if re.fullmatch(r"-?\d+:-?\d+", str(record.get("generation_id"))):
        record["generation_id"] = "0:0"
    return record


def _value(text: str) -> Any:
    if not text.startswith("("):
        return text
    parsed = _parse(text)
    if parsed is None:
        return text
    found = _as_map(parsed)
    return found if found else parsed


def _as_map(parsed: list[Any] | None) -> dict[str, str] | None:
    if parsed is None or not all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(x, str) for x in p) for p in parsed
    ):
        return None
    return {pair[0]: pair[1] for pair in parsed}


def _parse(text: str) -> list[Any] | None:
    """One parenthesised expression as nested lists; None when the text is none."""
    stack: list[list[Any]] = [[]]
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() != end:
            return None
        end = found.end()
        if found.group(1) == "(":
            stack.append([])
        elif found.group(1) == ")":
            if len(stack) == 1:
                return None
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(re.sub(r"\\(.)", r"\1", found.group(2)))
    whole = len(stack) == 1 and len(stack[0]) == 1 and not text[end:].strip()
    return stack[0][0] if whole and isinstance(stack[0][0], list) else None
