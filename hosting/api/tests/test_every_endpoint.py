"""Every route × every kind of caller = the status it is answered with. A route that is not here fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.urls import URLPattern, URLResolver
from django.utils import timezone

from hosting.api.tests.conftest import World
from hosting.api.urls import routes

Route = tuple[str, str]

CALLERS = (
    "anonymous",
    "stranger",
    "their token",
    "viewer",
    "member",
    "owner",
    "operator",
    "view token",
    "operate token",
    "manage token",
)


def statuses(row: str, done: int) -> dict[str, int]:
    """One sign a caller: `.` done; else the first digits of a refusal."""
    refusals = {"?": 401, "!": 403, "-": 404}
    return {
        caller: refusals.get(sign, done)
        for caller, sign in zip(CALLERS, row.replace(" ", ""), strict=True)
    }


#       a nobody, strangers; viewer, member, owner; operator; tokens that view, operate, manage
EVERYBODY = "? .. ... . ..."
LOOKING = "? -- ... - ..."
OPERATING = "? -- !.. - !.."
MANAGING = "? -- !!. - !!."
RUNNING_THE_FLEET = "? !! !!! . !!!"

# 409: that caller may, and what is in this world (an accepting host, operations that ended) does not allow it.
EXPECTED: dict[Route, dict[str, int]] = {
    ("GET", "me"): statuses(EVERYBODY, 200),
    ("GET", "tenants"): statuses(EVERYBODY, 200),
    ("GET", "tenant"): statuses(LOOKING, 200),
    ("GET", "tenant-members"): statuses(LOOKING, 200),
    ("GET", "tenant-quota"): statuses(LOOKING, 200),
    ("GET", "tenant-tokens"): statuses(MANAGING, 200),
    ("POST", "tenant-tokens"): statuses(MANAGING, 201),
    ("GET", "tenant-token"): statuses(MANAGING, 200),
    ("DELETE", "tenant-token"): statuses(MANAGING, 204),
    ("GET", "tenant-containers"): statuses(LOOKING, 200),
    ("POST", "tenant-containers"): statuses(OPERATING, 202),
    ("GET", "tenant-container"): statuses(LOOKING, 200),
    ("PATCH", "tenant-container"): statuses(OPERATING, 202),
    ("DELETE", "tenant-container"): statuses(OPERATING, 202),
    ("POST", "tenant-container-start"): statuses(OPERATING, 202),
    ("POST", "tenant-container-stop"): statuses(OPERATING, 202),
    ("POST", "tenant-container-restart"): statuses(OPERATING, 202),
    ("GET", "tenant-container-output"): statuses(LOOKING, 200),
    ("GET", "tenant-images"): statuses(LOOKING, 200),
    ("POST", "tenant-images"): statuses(OPERATING, 202),
    ("GET", "tenant-image"): statuses(LOOKING, 200),
    ("DELETE", "tenant-image"): statuses(OPERATING, 202),
    ("POST", "tenant-image-refresh"): statuses(OPERATING, 202),
    ("GET", "tenant-operations"): statuses(LOOKING, 200),
    ("GET", "tenant-operation"): statuses(LOOKING, 200),
    ("GET", "tenant-operation-events"): statuses(LOOKING, 200),
    ("POST", "tenant-operation-cancel"): statuses(OPERATING, 409),
    ("GET", "pools"): statuses(RUNNING_THE_FLEET, 200),
    ("GET", "pool"): statuses(RUNNING_THE_FLEET, 200),
    ("GET", "pool-hosts"): statuses(RUNNING_THE_FLEET, 200),
    ("GET", "host"): statuses(RUNNING_THE_FLEET, 200),
    ("POST", "host-cordon"): statuses(RUNNING_THE_FLEET, 200),
    ("POST", "host-uncordon"): statuses(RUNNING_THE_FLEET, 200),
    ("POST", "host-drain"): statuses(RUNNING_THE_FLEET, 202),
    ("POST", "host-return"): statuses(RUNNING_THE_FLEET, 409),
    ("POST", "host-repaired"): statuses(RUNNING_THE_FLEET, 409),
    ("POST", "host-confirm-off"): statuses(RUNNING_THE_FLEET, 409),
    ("GET", "host-instances"): statuses(RUNNING_THE_FLEET, 200),
    ("GET", "operations"): statuses(RUNNING_THE_FLEET, 200),
    ("GET", "operation"): statuses(RUNNING_THE_FLEET, 200),
    ("GET", "operation-events"): statuses(RUNNING_THE_FLEET, 200),
    ("POST", "operation-cancel"): statuses(RUNNING_THE_FLEET, 409),
    ("POST", "operation-wake"): statuses(RUNNING_THE_FLEET, 409),
    ("GET", "alarms"): statuses(RUNNING_THE_FLEET, 200),
}


def bodies(world: World) -> dict[Route, Any]:
    """What a well-made request of these routes has in it."""
    next_week = timezone.now() + timedelta(days=7)
    return {
        ("POST", "tenant-tokens"): {
            "name": "ci",
            "scopes": ["view"],
            "expires_at": next_week.isoformat(),
        },
        ("POST", "tenant-containers"): {"name": "web", "image": str(world.image.pk)},
        ("PATCH", "tenant-container"): {"vcpus": 2},
        ("POST", "host-confirm-off"): {"name": world.host.name},
        ("POST", "tenant-images"): {"name": "new", "reference": "registry.example/new:1"},
    }


def all_routes(patterns: Any = routes) -> Iterator[tuple[Route, Any]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from all_routes(pattern.url_patterns)
            continue
        assert isinstance(pattern, URLPattern)
        view = pattern.callback.cls  # type: ignore[attr-defined]
        for method in ("get", "put", "post", "patch", "delete"):
            if hasattr(view, method):
                yield (method.upper(), str(pattern.name)), view


def test_every_route_is_in_the_table() -> None:
    assert {route for route, _ in all_routes()} == set(EXPECTED)


@pytest.mark.parametrize("route", EXPECTED, ids=" ".join)
def test_each_caller_is_answered_as_it_should_be(route: Route, world: World) -> None:
    method, name = route
    answered = {}
    for caller, client in world.callers.items():
        with transaction.atomic():
            response = client.send(method, world.address(name), bodies(world).get(route))
            answered[caller] = response.status_code
            transaction.set_rollback(True)
    assert answered == EXPECTED[route]


HAS_UUID = [
    route
    for route, _ in all_routes()
    if (
        route[1] not in ("me", "tenants", "pools", "operations", "tenant")
        and not route[1].endswith(("s", "quota"))
    )
    or route[1] in ("tenant-operation-events", "operation-events", "pool-hosts", "host-instances")
]


@pytest.mark.parametrize("route", HAS_UUID, ids=" ".join)
def test_what_is_not_there_is_404(route: Route, world: World) -> None:
    method, name = route
    caller = world.callers["owner" if name.startswith("tenant") else "operator"]
    response = caller.send(method, world.address(name, uuid=uuid4()), bodies(world).get(route))
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_every_post_takes_an_idempotency_key() -> None:
    posts = [(route, view) for route, view in all_routes() if route[0] == "POST"]
    assert posts
    assert [route for route, view in posts if not hasattr(view.post, "is_once_per_key")] == []


def test_another_address_is_a_problem_too(world: World) -> None:
    for method in ("GET", "POST", "DELETE"):
        response = world.callers["owner"].send(method, "/api/v1/nothing/here")
        assert response.status_code == 404
        assert response.headers["Content-Type"] == "application/problem+json"
