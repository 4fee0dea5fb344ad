"""Open pages of a tenant hear of what goes on with its things, and of nothing else."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import transaction

from hosting import notices
from hosting.catalog.tests.makers import make_image
from hosting.compute.services import delete_container
from hosting.compute.tests.makers import make_container, make_instance
from hosting.connections import redis_client
from hosting.fleet.tests.makers import make_host
from hosting.operations import bell
from hosting.operations.models import Operation
from hosting.operations.services import cancel, hand_over, request
from tenants import notices as tenants_notices
from tenants.models import Tenant
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    heard: list[str] = []
    monkeypatch.setattr(tenants_notices, "publish", heard.extend)
    return heard


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant()


def channel(tenant: Tenant) -> str:
    return tenants_notices.channel_of(tenant.pk)


def test_what_is_asked_for_is_told_when_it_is_committed(
    tenant: Tenant, said: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    container = make_container(tenant)
    with django_capture_on_commit_callbacks(execute=True):
        delete_container(container=container, requested_by="t")
        assert said == []
    assert said == [channel(tenant)]


def test_a_change_of_mind_is_told(
    tenant: Tenant, said: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    container = make_container(tenant)
    instance = container.instances.get()
    operation = request("instance.start", instance, requested_by="t")
    with django_capture_on_commit_callbacks(execute=True):
        cancel(operation, requested_by="t")
    assert said == [channel(tenant)]
    with django_capture_on_commit_callbacks(execute=True):
        delete_container(container=container, requested_by="t")
    assert said == [channel(tenant)] * 2


def test_those_whose_work_a_recovery_takes_over_are_told_by_one_query(
    said: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    operations = [request("instance.stop", make_instance(), requested_by="t") for _ in range(2)]
    recovery = request("host.recover", make_host(), requested_by="t")
    with django_capture_on_commit_callbacks(execute=True):
        hand_over(Operation.objects.filter(kind="instance.stop"), recovery)
    tenants = {
        operation.instance.container.tenant_id for operation in operations if operation.instance
    }
    assert set(said) == {tenants_notices.channel_of(tenant) for tenant in tenants}


def test_an_import_is_told_to_whose_image_it_is(
    tenant: Tenant, said: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        request("image.import", make_image(tenant), requested_by="t")
    assert said == [channel(tenant)]


def test_what_only_operators_see_is_told_to_no_tenant(
    said: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        request("host.evacuate", make_host(), requested_by="t")
        request("image.import", make_image(None), requested_by="t")
    assert said == []


def test_a_redis_that_is_away_harms_nothing(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    notices.publish(["bulkhead:tenant:x"])


@pytest.mark.django_db(transaction=True)
def test_it_is_really_said(tenant: Tenant) -> None:
    client: Any = redis_client(settings.REDIS_URL, notices.PATIENCE)
    with client.pubsub() as page:
        page.subscribe(channel(tenant))
        assert page.get_message(timeout=5) is not None
        with transaction.atomic():
            tenants_notices.tell_on_commit([tenant.pk])
        message = page.get_message(timeout=5)
    assert UUID(message["channel"].decode().rpartition(":")[2]) == tenant.pk
