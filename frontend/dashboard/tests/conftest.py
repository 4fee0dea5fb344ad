"""One tenant with a person of each role, somebody else's tenant, and no broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from hosting.catalog.models import Image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container, Instance
from hosting.compute.output import forget_lines
from hosting.compute.tests.makers import make_instance
from hosting.fleet.models import Host
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.operations import bell
from tenants.choices import Role
from tenants.models import Tenant, User
from tenants.tests.makers import make_member, make_tenant, make_user

GIB = 2**30


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@dataclass
class Place:
    """A tenant as its pages are asked for."""

    tenant: Tenant
    host: Host
    clients: dict[str, Client]

    def address(self, name: str, **more: Any) -> str:
        return reverse(f"dashboard:{name}", kwargs={"slug": self.tenant.slug, **more})

    def get(self, name: str, *, who: str = "member", query: Any = None, **more: Any) -> Any:
        return self.clients[who].get(self.address(name, **more), query)

    def html(self, name: str, **more: Any) -> str:
        answer = self.get(name, **more)
        assert answer.status_code == 200
        return str(answer.content.decode())

    def post(self, name: str, data: Any = None, *, who: str = "member", **more: Any) -> Any:
        return self.clients[who].post(self.address(name, **more), data or {})

    def add_container(self, power_state: str = "Running", **given: Any) -> Container:
        """One that has run, and of which the mirror tells."""
        instance = make_instance(self.tenant, host=self.host)
        make_vm(self.host.pool, instance_uuid=instance.pk, power_state=power_state)
        Container.objects.filter(pk=instance.container_id).update(**given)
        return Container.objects.get(pk=instance.container_id)


@pytest.fixture
def place(db: None) -> Place:
    owner = make_user("alice")
    tenant = make_tenant("acme", owner=owner, containers=200, vcpus=400, disk_bytes=2**42)
    stranger = make_tenant("other").memberships.get().user
    return Place(
        tenant,
        make_host(memory_total_bytes=64 * GIB, memory_capacity_bytes=64 * GIB),
        {
            "owner": client_of(owner),
            "member": client_of(make_member(tenant, Role.MEMBER).user),
            "viewer": client_of(make_member(tenant, Role.VIEWER).user),
            "stranger": client_of(stranger),
            "operator": client_of(make_user(is_staff=True)),
            "anonymous": Client(),
        },
    )


@pytest.fixture
def container(place: Place) -> Container:
    return place.add_container(name="web")


@pytest.fixture
def image(place: Place) -> Image:
    return make_image(place.tenant, name="nginx")


Forget = Callable[[Instance], None]


@pytest.fixture
def forget(servers: None) -> Iterator[Forget]:
    """Output of these is gone after the test."""
    seen: list[Instance] = []
    yield seen.append
    for instance in seen:
        forget_lines(instance.pk)
