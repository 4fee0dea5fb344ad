"""Who calls, and how often."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from hosting.api import throttles
from hosting.api.tests.conftest import Caller, World
from hosting.operations.models import Operation
from tenants.choices import Role, Scope
from tenants.models import ApiToken, Membership
from tenants.services import remove_member, revoke_token
from tenants.tests.makers import make_member, make_token, make_user


def test_a_stranger_is_told_how_to_say_who_he_is(world: World) -> None:
    answer = world.callers["anonymous"].get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="bulkhead"'


@pytest.mark.parametrize("secret", ["bh_nonsense", "bh_", " ", "bh_\u00fc", "a b c"])
def test_nonsense_is_no_token(world: World, secret: str) -> None:
    answer = world.callers["anonymous"].get("/api/v1/me", Authorization=f"Bearer {secret}")
    assert answer.status_code == 401


def test_a_dead_token_opens_nothing(world: World) -> None:
    membership = make_member(world.tenant, Role.MEMBER)
    for end in (
        revoke_token,
        lambda token: ApiToken.objects.filter(pk=token.pk).update(expires_at=Now()),
        lambda token: remove_member(tenant=world.tenant, user=membership.user),
    ):
        token, secret = make_token(membership)
        caller = Caller(secret=secret)
        assert caller.get(world.address("tenant")).status_code == 200
        end(token)
        assert caller.get(world.address("tenant")).status_code == 401


def test_a_token_never_does_more_than_its_maker_may_now(world: World) -> None:
    membership = make_member(world.tenant, Role.MEMBER)
    caller = Caller(secret=make_token(membership, Scope.OPERATE)[1])
    stop = world.address("tenant-container-stop")
    Membership.objects.filter(pk=membership.pk).update(role=Role.VIEWER)
    answer = caller.post(stop)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_an_operators_token_reaches_no_further_than_its_tenant(world: World) -> None:
    operator = make_user(is_staff=True)
    membership = Membership.objects.create(tenant=world.tenant, user=operator, role=Role.OWNER)
    caller = Caller(secret=make_token(membership, Scope.MANAGE)[1])
    assert caller.get(world.address("host")).status_code == 403
    me = caller.get("/api/v1/me").json()
    assert me["is_operator"] is False
    assert [tenant["slug"] for tenant in me["tenants"]] == ["acme"]
    assert me["token"]["scopes"] == ["manage"]


def test_a_sessions_writing_needs_a_csrf_token(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_member(world.tenant, Role.MEMBER).user)
    assert client.post(world.address("tenant-container-stop")).status_code == 403
    by_token = Client(
        enforce_csrf_checks=True, headers=world.callers["operate token"].headers
    ).post(world.address("tenant-container-stop"))
    assert by_token.status_code == 202


def test_operations_say_who_asked(world: World) -> None:
    for caller in ("member", "operate token"):
        world.callers[caller].post(world.address("tenant-container-stop"))
        Operation.objects.exclude(ended_at__isnull=False).update(state="succeeded", ended_at=Now())
    who = sorted(set(Operation.objects.values_list("requested_by", flat=True)))
    assert who[0] == "test"
    assert who[1].startswith("token:bh_")
    assert who[2].startswith("user:person")


def test_a_tokens_use_is_noted(world: World) -> None:
    token, secret = make_token(make_member(world.tenant))
    Caller(secret=secret).get("/api/v1/me")
    token.refresh_from_db()
    assert token.last_used_at is not None


def test_who_asks_too_often_is_told_to_wait(
    world: World, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.API_REQUESTS_PER_MINUTE = 3
    monkeypatch.setattr(throttles, "now", lambda: 120.0 + 20.0)
    caller = world.callers["viewer"]
    answers = [caller.get("/api/v1/me") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "throttled"
    assert answers[3].headers["Retry-After"] == "40"
    assert world.callers["member"].get("/api/v1/me").status_code == 200
    monkeypatch.setattr(throttles, "now", lambda: 180.0)
    assert caller.get("/api/v1/me").status_code == 200


def test_without_redis_nobody_is_refused(world: World, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert world.callers["view token"].get("/api/v1/me").status_code == 200


def test_a_name_too_long_for_the_journal_is_told_by_number(world: World) -> None:
    user = make_member(world.tenant).user
    user.username = "x" * 150
    user.save()
    Caller(user).post(world.address("tenant-container-stop"))
    assert Operation.objects.filter(requested_by=f"user:{user.pk}").exists()


def test_a_token_that_has_ended_before_it_began_is_refused(world: World) -> None:
    body = {"name": "ci", "scopes": ["view"], "expires_at": "2001-01-01T00:00:00Z"}
    answer = world.callers["owner"].post(world.address("tenant-tokens"), body)
    assert (answer.status_code, answer.json()["code"]) == (400, "expiry_out_of_range")
