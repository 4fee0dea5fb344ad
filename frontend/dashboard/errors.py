"""What a service's refusal becomes on a page: a status of HTTP, and words where the person looks."""

from __future__ import annotations

from collections.abc import Mapping

from frontend.console.templatetags.figures import size
from hosting.errors import (
    Conflict,
    Forbidden,
    HostingError,
    InvalidRequest,
    NoCapacity,
    QuotaExceeded,
    Unavailable,
)
from tenants.choices import DIMENSIONS

REFUSALS = (Conflict, InvalidRequest, QuotaExceeded, Unavailable, NoCapacity)
"""What a page can answer by itself; NotFound and Forbidden are pages of their own (access.py)."""

_STATUS: dict[type[HostingError], int] = {
    InvalidRequest: 400,
    Forbidden: 403,
    QuotaExceeded: 403,
    Conflict: 409,
    Unavailable: 503,
    NoCapacity: 507,
}

NAMES = {
    "containers": "containers",
    "vcpus": "vCPUs",
    "memory_bytes": "memory",
    "disk_bytes": "disk",
}
assert tuple(NAMES) == DIMENSIONS


def status_of(error: HostingError) -> int:
    return _STATUS[type(error)]


def amount(dimension: str, number: int) -> str:
    """So much of a dimension of the quota, as people write it."""
    return size(number) if dimension.endswith("_bytes") else str(number)


def short_dimensions(error: QuotaExceeded) -> dict[str, str]:
    """What of the quota is short → the sentence that says so."""
    asked, left = error.context.get("asked"), error.context.get("left")
    if not isinstance(asked, Mapping) or not isinstance(left, Mapping):
        return {}
    return {
        name: f"The quota leaves {amount(name, left[name])} of {NAMES[name]}; "
        f"this takes {amount(name, asked[name])}."
        if name != "containers"
        else "The quota leaves no further container."
        for name in asked
        if asked[name] > left[name]
    }
