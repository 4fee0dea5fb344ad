"""Typed reading of environment variables, each at most once.

Every reader takes the variable's name and says its type; a value that does not parse is an error that
names the variable. `SEEN` keeps what was read, so that a test can hold it against docs/settings.md.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from django.core.exceptions import ImproperlyConfigured

SEEN: set[str] = set()

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _read(name: str) -> str | None:
    if name in SEEN:
        message = f"{name} is read twice: read it once in settings.py and use the setting"
        raise ImproperlyConfigured(message)
    SEEN.add(name)
    return os.environ.get(name)


def envstr(name: str, default: str) -> str:
    """The text of `name`; `default` when it is absent."""
    value = _read(name)
    return default if value is None else value


def envchoice(name: str, choices: Sequence[str], default: str) -> str:
    """One of `choices`; raises ImproperlyConfigured on any other word."""
    value = envstr(name, default)
    if value not in choices:
        message = f"{name} is {value!r}, but must be one of: {', '.join(choices)}"
        raise ImproperlyConfigured(message)
    return value


def envlist(name: str, default: Sequence[str] = ()) -> list[str]:
    """Words parted by commas, blanks trimmed, empty ones dropped."""
    value = _read(name)
    if value is None:
        return list(default)
    return [word.strip() for word in value.split(",") if word.strip()]


def envbool(name: str, default: bool) -> bool:
    """1/true/yes/on or 0/false/no/off, in any case."""
    value = _read(name)
    if value is None:
        return default
    word = value.strip().lower()
    if word not in _TRUE | _FALSE:
        message = f"{name} is {value!r}, but must be true or false"
        raise ImproperlyConfigured(message)
    return word in _TRUE


def envint(name: str, default: int) -> int:
    """A whole number."""
    value = _read(name)
    if value is None:
        return default
    try:
        return int(value)
    except ValueError:
        message = f"{name} is {value!r}, but must be a whole number"
        raise ImproperlyConfigured(message) from None


def envamounts(name: str, known: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """A JSON object of objects: for whom ("*": everybody), how much of what.

    `known` has the names of amounts, each with the most it may be; all are whole numbers from 1 on.
    """
    text = envstr(name, "") or "{}"
    try:
        found = json.loads(text)
        for amounts in found.values():
            for word, amount in amounts.items():
                if word not in known or type(amount) is not int or not 1 <= amount <= known[word]:
                    message = (
                        f"{name} has {word!r}: {amount!r}; known are, with the most each may be: "
                    )
                    raise ImproperlyConfigured(
                        message + ", ".join(f"{one} {most}" for one, most in known.items())
                    )
    except (ValueError, AttributeError):
        message = f'{name} must be JSON such as {{"*": {{"{next(iter(known))}": 1}}}}'
        raise ImproperlyConfigured(message) from None
    return cast("dict[str, dict[str, int]]", found)


def envsecret(name: str, default: str = "") -> str:
    """The secret in `name`, or in the file that `name`_FILE names (trailing newline dropped).

    Raises ImproperlyConfigured when both are set or the file cannot be read.
    """
    value, file = _read(name), _read(f"{name}_FILE")
    if file is None:
        return default if value is None else value
    if value is not None:
        message = f"both {name} and {name}_FILE are set: which one is meant?"
        raise ImproperlyConfigured(message)
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        message = f"{name}_FILE names {file!r}, which cannot be read: {error.strerror}"
        raise ImproperlyConfigured(message) from error
