"""One tenant with people, tokens and things of all kinds, and somebody else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import cache
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from hosting.catalog.models import Image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Instance
from hosting.compute.tests.makers import make_instance
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host
from hosting.operations import bell
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.choices import Role, Scope
from tenants.models import ApiToken, Tenant
from tenants.tests.makers import make_member, make_tenant, make_token, make_user


class Caller:
    """A client of one person or token, which sends and reads JSON."""

    def __init__(self, user: Any = None, secret: str = "") -> None:
        self.client = Client()
        self.headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        if user is not None:
            self.client.force_login(user)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.generic(
            method,
            path,
            b"" if body is None else json.dumps(body),
            content_type="application/json",
            headers={**self.headers, **given},
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)


@dataclass
class World:
    tenant: Tenant
    callers: dict[str, Caller]
    token: ApiToken
    instance: Instance
    image: Image
    host: Host
    operation: Operation
    fleet_operation: Operation

    def address(self, route: str, **given: Any) -> str:
        """Of a route, with this world's things in it but for what is given."""
        things: dict[str, UUID] = {
            "tenant-token": self.token.pk,
            "tenant-container": self.instance.container_id,
            "tenant-image": self.image.pk,
            "tenant-operation": self.operation.pk,
            "pool": self.host.pool_id,
            "host": self.host.pk,
            "operation": self.fleet_operation.pk,
        }
        known: dict[str, Any] = {}
        if route.startswith("tenant-") or route == "tenant":
            known["slug"] = self.tenant.slug
        for name, uuid in things.items():
            if route == name or route.startswith(f"{name}-"):
                known["uuid"] = uuid
        return reverse(route, kwargs={**known, **given})


def make_ended(**subject: Any) -> Operation:
    return Operation.objects.create(
        kind="test", requested_by="test", state=State.SUCCEEDED, ended_at=Now(), **subject
    )


@pytest.fixture(autouse=True)
def unthrottled(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has asked anything this minute yet, and no broker is there."""
    cache.clear()
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


@pytest.fixture
def world(db: None) -> World:
    tenant = make_tenant("acme")
    owner = tenant.memberships.get(role=Role.OWNER)
    other = make_tenant("other")
    theirs = other.memberships.get()
    host = make_host()
    instance = make_instance(tenant, host=host)

    def by_token(*scopes: Scope) -> Caller:
        return Caller(secret=make_token(owner, *scopes)[1])

    callers = {
        "anonymous": Caller(),
        "stranger": Caller(theirs.user),
        "their token": Caller(secret=make_token(theirs, Scope.MANAGE)[1]),
        "viewer": Caller(make_member(tenant, Role.VIEWER).user),
        "member": Caller(make_member(tenant, Role.MEMBER).user),
        "owner": Caller(owner.user),
        "operator": Caller(make_user(is_staff=True)),
        "view token": by_token(Scope.VIEW),
        "operate token": by_token(Scope.OPERATE),
        "manage token": by_token(Scope.MANAGE),
    }
    return World(
        tenant=tenant,
        callers=callers,
        token=make_token(owner)[0],
        instance=instance,
        image=make_image(tenant),
        host=host,
        operation=make_ended(instance=instance),
        fleet_operation=make_ended(host=host),
    )
