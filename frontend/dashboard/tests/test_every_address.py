"""Every address × every kind of visitor = the status they are answered with. One that is not here fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from frontend.dashboard.tests.conftest import Place
from frontend.dashboard.urls import urlpatterns
from hosting.catalog.models import Image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container
from tenants.choices import Scope
from tenants.models import ApiToken
from tenants.services import create_token
from tenants.tests.makers import make_tenant

Asked = tuple[str, str]

#        anonymous, stranger, operator; viewer, member, owner
VISITORS = ("anonymous", "stranger", "operator", "viewer", "member", "owner")


def statuses(row: str, done: int) -> dict[str, int]:
    """One sign a visitor: `.` done; `?` asked to sign in; `!` told that they may not; `-` finds nothing."""
    refusals = {"?": 302, "!": 403, "-": 404}
    signs = row.replace(" ", "")
    return {who: refusals.get(sign, done) for who, sign in zip(VISITORS, signs, strict=True)}


LOOKING = "?-- ..."
OPERATING = "?-- !.."
MANAGING = "?-- !!."

EXPECTED: dict[Asked, dict[str, int]] = {
    ("GET", "containers"): statuses(LOOKING, 200),
    ("GET", "container-new"): statuses(OPERATING, 200),
    ("POST", "container-new"): statuses(OPERATING, 302),
    ("GET", "container"): statuses(LOOKING, 200),
    ("GET", "container-output"): statuses(LOOKING, 200),
    ("POST", "container-start"): statuses(OPERATING, 302),
    ("POST", "container-stop"): statuses(OPERATING, 302),
    ("POST", "container-restart"): statuses(OPERATING, 302),
    ("POST", "container-cancel"): statuses(OPERATING, 302),
    ("GET", "container-resize"): statuses(OPERATING, 200),
    ("POST", "container-resize"): statuses(OPERATING, 302),
    ("GET", "container-delete"): statuses(OPERATING, 200),
    ("POST", "container-delete"): statuses(OPERATING, 302),
    ("GET", "images"): statuses(LOOKING, 200),
    ("GET", "image-new"): statuses(OPERATING, 200),
    ("POST", "image-new"): statuses(OPERATING, 302),
    ("POST", "image-refresh"): statuses(OPERATING, 302),
    ("POST", "image-cancel"): statuses(OPERATING, 302),
    ("GET", "image-remove"): statuses(OPERATING, 200),
    ("POST", "image-remove"): statuses(OPERATING, 302),
    ("GET", "activity"): statuses(LOOKING, 200),
    ("GET", "quota"): statuses(LOOKING, 200),
    ("GET", "people"): statuses(LOOKING, 200),
    ("POST", "member-role"): statuses(MANAGING, 302),
    ("GET", "member-remove"): statuses(MANAGING, 200),
    ("POST", "member-remove"): statuses(MANAGING, 302),
    ("GET", "tokens"): statuses(MANAGING, 200),
    ("GET", "token-new"): statuses(MANAGING, 200),
    ("POST", "token-new"): statuses(MANAGING, 201),
    ("POST", "token-revoke"): statuses(MANAGING, 302),
}


# How the name of an address begins that has one of them in it.
THINGS = ("container", "image", "member", "token")


@pytest.fixture
def token(place: Place) -> ApiToken:
    return make_token_of(place)


def make_token_of(place: Place) -> ApiToken:
    token, _ = create_token(
        tenant=place.tenant,
        user=place.tenant.memberships.get(role="owner").user,
        name="ci",
        scopes=[Scope.VIEW],
        expires_at=timezone.now() + timedelta(days=1),
    )
    return token


@pytest.fixture
def things(place: Place, container: Container, image: Image, token: ApiToken) -> dict[str, Any]:
    """What stands in an address, by how the address's name begins."""
    viewer = place.tenant.memberships.get(role="viewer")
    return {
        "container": {"uuid": container.pk},
        "image": {"uuid": image.pk},
        "member": {"number": viewer.pk},
        "token": {"uuid": token.pk},
    }


def in_address(name: str, things: dict[str, Any]) -> dict[str, Any]:
    if name.endswith("-new"):
        return {}
    found: dict[str, Any] = things.get(name.partition("-")[0], {})
    return found


def body(name: str, image: Image) -> dict[str, Any]:
    """Of a well-made form."""
    bodies: dict[str, dict[str, Any]] = {
        "container-new": {
            "name": "new",
            "image": str(image.pk),
            "vcpus": "1",
            "memory_bytes": "256 MiB",
            "disk_bytes": "1 GiB",
            "restart_policy": "always",
        },
        "container-resize": {"vcpus": "2", "memory_bytes": "512"},
        "image-new": {"name": "new", "reference": "registry.example/new:1"},
        "member-role": {"role": "member"},
        "token-new": {"name": "ci", "scopes": ["view"], "days": "30"},
    }
    return bodies.get(name, {})


def names() -> set[str]:
    return {str(one.name) for one in urlpatterns} - {"events"}


def test_every_address_is_in_the_table() -> None:
    assert {name for _, name in EXPECTED} == names()


def send(client: Client, method: str, address: str, data: Any) -> Any:
    ask: Callable[..., Any] = client.post if method == "POST" else client.get
    return ask(address, data)


@pytest.mark.parametrize("asked", EXPECTED, ids=" ".join)
def test_each_visitor_is_answered_as_they_should_be(
    asked: Asked, place: Place, things: dict[str, Any], image: Image
) -> None:
    method, name = asked
    address = place.address(name, **in_address(name, things))
    answered = {}
    for who in VISITORS:
        with transaction.atomic():
            answer = send(place.clients[who], method, address, body(name, image))
            answered[who] = answer.status_code
            transaction.set_rollback(True)
        if answer.status_code == 302 and who == "anonymous":
            assert answer["Location"].startswith("/login/?next=")
    assert answered == EXPECTED[asked]


OF_A_THING = [one for one in EXPECTED if one[1].partition("-")[0] in THINGS and "new" not in one[1]]


@pytest.mark.parametrize("asked", OF_A_THING, ids=" ".join)
def test_what_another_tenant_has_is_not_there(asked: Asked, place: Place, image: Image) -> None:
    method, name = asked
    theirs = make_tenant()
    other = Place(theirs, place.host, {})
    foreign: dict[str, dict[str, Any]] = {
        "container": {"uuid": other.add_container().pk},
        "image": {"uuid": make_image(theirs).pk},
        "member": {"number": theirs.memberships.get().pk},
        "token": {"uuid": make_token_of(other).pk},
    }
    nobodys = {**{thing: {"uuid": uuid4()} for thing in THINGS}, "member": {"number": 10**9}}
    for things in (foreign, nobodys):
        address = place.address(name, **in_address(name, things))
        assert send(place.clients["owner"], method, address, body(name, image)).status_code == 404


@pytest.mark.parametrize("asked", [one for one in EXPECTED if one[0] == "POST"], ids=" ".join)
def test_nothing_is_written_without_the_forms_own_secret(
    asked: Asked, place: Place, things: dict[str, Any], image: Image
) -> None:
    _, name = asked
    owner = place.tenant.memberships.get(role="owner").user
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(owner)
    answer = careful.post(place.address(name, **in_address(name, things)), body(name, image))
    assert answer.status_code == 403
    assert "The form is too old" in answer.content.decode()


@pytest.mark.parametrize("asked", EXPECTED, ids=" ".join)
def test_no_page_needs_what_the_security_policy_forbids(
    asked: Asked, place: Place, things: dict[str, Any], image: Image
) -> None:
    method, name = asked
    address = place.address(name, **in_address(name, things))
    answer = send(place.clients["owner"], method, address, body(name, image))
    html = answer.content.decode()
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    for forbidden in (" style=", " onclick=", "<style", "javascript:"):
        assert forbidden not in html


ONLY_POST = [one for one in EXPECTED if ("GET", one[1]) not in EXPECTED]


@pytest.mark.parametrize("asked", ONLY_POST, ids=" ".join)
def test_nothing_is_done_by_following_a_link(
    asked: Asked, place: Place, things: dict[str, Any]
) -> None:
    _, name = asked
    assert place.get(name, who="owner", **in_address(name, things)).status_code == 405
