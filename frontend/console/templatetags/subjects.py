"""From an alarm to the page of what it is about."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from django import template
from django.urls import reverse

from hosting.alarms.models import Alarm

register = template.Library()


@dataclass(frozen=True, slots=True)
class Subject:
    """`vouch`: where a person vouches for what no program can find out, if there is such a thing."""

    label: str
    address: str
    vouch: str = ""


@register.filter
def subject(alarm: Alarm) -> Subject | None:
    """None for a tag that names no page of ours."""
    code, _, about = alarm.tag.partition(":")
    if code == "step-broken":
        kind = about.rpartition(".")[0]
        query = urlencode({"kind": kind, "trouble": "bug"})
        return Subject("Operations held up", f"{reverse('console:operations')}?{query}")
    if code == "vm-lost":
        return _container_of(about)
    if code == "ledger-wrong":
        what, _, rest = about.partition(":")
        return _one(what, rest.partition(".")[0])
    if code == "network-full":  # of a range, a pool's tags or a tenant's subnet
        return Subject("The pools", reverse("console:pools"))
    return _one(_KINDS.get(code, ""), about)


_KINDS = {
    "host-not-fenced": "host",
    "half-of-pool-silent": "pool",
    "pool-unfollowed": "pool",
    "pool-unreachable": "pool",
    "strangers-in-pool": "pool",
    "follower-broken": "pool",
    "blanks-failing": "pool",
    "operation-late": "operation",
    "operation-stuck": "operation",
    "step-kills-workers": "operation",
}

_ROUTES = {
    "host": ("The host", "console:host-anywhere"),
    "pool": ("The pool", "console:pool"),
    "operation": ("The operation", "console:operation"),
    "tenant": ("The tenant", "console:tenant-anywhere"),
    "lost VM": ("The VM", "console:vm-is-gone"),
}


def _one(kind: str, name: str) -> Subject | None:
    label, route = _ROUTES.get(kind, ("", ""))
    if not route:
        return None
    try:
        return Subject(label, reverse(route, args=[UUID(name)]))
    except ValueError:
        return None


def _container_of(instance: str) -> Subject | None:
    vouching = _one("lost VM", instance)
    if vouching is None:
        return None
    query = urlencode({"q": instance})
    address = f"{reverse('console:containers')}?{query}"
    return Subject("The container", address, vouch=vouching.address)
