"""A filter that was forgotten leaks nothing: PostgreSQL shows a tenant's request that tenant's rows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import Error, ProgrammingError, transaction
from django.db.models import Model
from rest_framework.test import APIClient

from hosting.api.views import containers as container_views
from hosting.catalog.models import Image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container
from hosting.compute.selectors import containers
from hosting.compute.tests.makers import make_instance
from hosting.fleet.tests.makers import make_host, make_vm
from hosting.networks.tests.makers import make_segment
from hosting.operations.choices import What
from hosting.operations.models import Operation, OperationEvent
from tenants.choices import Role
from tenants.confinement import confined_to
from tenants.models import Membership, Tenant, User
from tenants.tests.makers import make_member, make_tenant, make_token, make_user

pytestmark = pytest.mark.django_db

POLICIES = import_module("hosting.operations.migrations.0004_row_level_security")
LATER = [import_module("hosting.networks.migrations.0002_row_level_security")]
OWN = sorted({table for module in (POLICIES, *LATER) for table in module.OWN})
SHARED = set(POLICIES.SHARED)
MODELS = {model._meta.db_table: model for model in apps.get_models()}


def furnish(slug: str) -> Tenant:
    """One row of everything that is a tenant's."""
    user = make_user(slug)
    tenant = make_tenant(slug=slug, owner=user)
    make_token(tenant.memberships.get())
    make_image(tenant)
    instance = make_instance(tenant, host=make_host(name=slug))
    assert instance.pool is not None
    make_vm(instance.pool, instance_uuid=instance.pk)
    make_segment(tenant, instance.pool)
    operation = Operation.objects.create(kind="instance.stop", instance=instance, requested_by="t")
    OperationEvent.objects.note(operation, What.REQUESTED)
    return tenant


@pytest.fixture
def ours(db: None) -> Tenant:
    return furnish("ours")


@pytest.fixture
def theirs(db: None) -> Tenant:
    return furnish("theirs")


@pytest.mark.parametrize("table", OWN)
def test_only_its_own_rows_are_there(ours: Tenant, theirs: Tenant, table: str) -> None:
    rows = MODELS[table]._default_manager
    everything = rows.count()
    with confined_to(ours):
        mine = set(rows.values_list("pk", flat=True))
    with confined_to(theirs):
        other = set(rows.values_list("pk", flat=True))
    assert mine
    assert other
    assert not mine & other
    assert rows.count() == everything >= len(mine) + len(other)


@pytest.mark.parametrize("table", sorted(set(MODELS) - set(OWN) - SHARED))
def test_what_no_request_of_a_tenant_needs_is_not_to_be_had(ours: Tenant, table: str) -> None:
    model: type[Model] = MODELS[table]
    denied = pytest.raises(ProgrammingError, match="permission denied")
    with confined_to(ours), denied, transaction.atomic():
        model._default_manager.first()


def test_everybodys_images_are_seen_and_not_written(ours: Tenant) -> None:
    image = make_image(None)
    with confined_to(ours):
        assert Image.objects.filter(pk=image.pk).exists()
        assert not Image.objects.filter(pk=image.pk).update(reference="evil")


def test_how_the_import_of_everybodys_image_goes_is_seen_and_not_changed(ours: Tenant) -> None:
    operation = Operation.objects.create(
        kind="image.import", image=make_image(None), requested_by="t"
    )
    with confined_to(ours):
        assert Operation.objects.filter(pk=operation.pk).exists()
        assert not Operation.objects.filter(pk=operation.pk).update(detail="mine")


def test_who_made_a_token_and_has_left_is_still_named(ours: Tenant) -> None:
    gone = make_member(ours)
    make_token(gone)
    gone.delete()
    with confined_to(ours):
        assert User.objects.filter(pk=gone.user_id).exists()


def test_others_rows_are_neither_changed_nor_made(ours: Tenant, theirs: Tenant) -> None:
    container = Container.objects.get(tenant=theirs)
    with confined_to(ours):
        assert not Container.objects.filter(pk=container.pk).update(name="mine")
        with pytest.raises(Error, match="row-level security"), transaction.atomic():
            Membership.objects.create(
                tenant_id=theirs.pk, user=ours.memberships.get().user, role=Role.OWNER
            )


def test_afterwards_everything_is_seen_again(ours: Tenant, theirs: Tenant) -> None:
    with confined_to(ours):
        pass
    assert Container.objects.count() == 2
    with pytest.raises(ZeroDivisionError), confined_to(ours):
        raise ZeroDivisionError
    assert Container.objects.count() == 2


def test_a_view_that_forgets_to_filter_shows_nothing_of_others(
    ours: Tenant, theirs: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_views, "containers_of", lambda _tenant: containers())
    client = APIClient()
    client.force_login(ours.memberships.get().user)
    answer: Any = client.get(f"/api/v1/tenants/{ours.slug}/containers")
    mine = Container.objects.get(tenant=ours)
    assert [one["uuid"] for one in answer.json()["results"]] == [str(mine.pk)]
