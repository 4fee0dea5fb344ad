"""Reads the arguments of a request, and says which one is wrong."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Mapping
from typing import Any

from deploy.xenlab.agent.errors import AgentError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
# The kernel's limit is 15 characters; `vif` names are those of domains.
_BRIDGE = re.compile(r"(?!vif)[A-Za-z][A-Za-z0-9._-]{0,14}")


def text(source: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A string without control characters, of at most 4096 characters."""
    value = source.get(name, default)
    if not isinstance(value, str) or len(value) > 4096 or any(ord(c) < 32 for c in value):
        raise bad(name, "a line of text")
    return value


def number(
    source: Mapping[str, Any], name: str, least: int, most: int, default: int | None = None
) -> int:
    """A whole number in a range, both ends included."""
    value = source.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise bad(name, f"a whole number from {least} to {most}")
    return value


def numbers(source: Mapping[str, Any], name: str, least: int, most: int) -> list[int]:
    """A list of such numbers; an absent one is empty."""
    return [number({name: value}, name, least, most) for value in many(source, name)]


def boolean(source: Mapping[str, Any], name: str, default: bool = False) -> bool:
    value = source.get(name, default)
    if not isinstance(value, bool):
        raise bad(name, "true or false")
    return value


def identity(source: Mapping[str, Any], name: str = "uuid") -> str:
    """A UUID in its usual form."""
    try:
        value = str(uuid.UUID(source.get(name)))
    except (ValueError, AttributeError, TypeError) as error:
        raise bad(name, "a UUID") from error
    return value


def plain_name(source: Mapping[str, Any], name: str) -> str:
    """A name that is safe as a file's."""
    value = text(source, name)
    if not _NAME.fullmatch(value):
        raise bad(name, "1 to 64 of letters, digits, '.', '_' and '-'")
    return value


def bridge(source: Mapping[str, Any], name: str = "bridge") -> str:
    """A network device's name."""
    value = text(source, name)
    if not _BRIDGE.fullmatch(value):
        raise bad(name, "the name of a bridge")
    return value


def mac(source: Mapping[str, Any], name: str = "mac") -> str:
    """A unicast MAC address, in lower case."""
    value = text(source, name).lower()
    if not _MAC.fullmatch(value) or int(value[:2], 16) & 1:
        raise bad(name, "a unicast MAC address")
    return value


def addresses(source: Mapping[str, Any], name: str, version: int) -> tuple[str, ...]:
    """IP addresses without prefix length."""
    found = []
    for value in many(source, name):
        try:
            address = ipaddress.ip_address(value)
        except ValueError as error:
            raise bad(name, f"IPv{version} addresses") from error
        if address.version != version or address.is_multicast or "%" in str(address):
            raise bad(name, f"IPv{version} addresses")
        found.append(str(address))
    return tuple(found)


def many(source: Mapping[str, Any], name: str) -> list[Any]:
    """A list; an absent one is empty."""
    value = source.get(name, [])
    if not isinstance(value, list) or len(value) > 256:
        raise bad(name, "a list of at most 256")
    return value


def bad(name: str, wanted: str) -> AgentError:
    return AgentError("bad_argument", f"`{name}` must be {wanted}")
