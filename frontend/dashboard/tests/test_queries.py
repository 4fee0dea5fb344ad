"""No page costs more queries when there is more to show."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from frontend.dashboard.tests.conftest import Place
from hosting.catalog.services import import_image
from hosting.compute.models import Container
from hosting.operations.models import Operation
from tenants.choices import Role
from tenants.services import add_member
from tenants.tests.makers import make_tenant, make_token, make_user

pytestmark = pytest.mark.django_db

# User and memberships (a session comes from the cache), four to be confined to the tenant; then what is shown.
BUDGETS = {
    "containers": 12,
    "container-new": 9,
    "container": 12,
    "container-output": 9,
    "images": 9,
    "activity": 9,
    "quota": 11,
    "people": 8,
    "tokens": 8,
}


def add_more(place: Place, container: Container) -> None:
    """One more of everything that could be listed."""
    other = place.add_container()
    Operation.objects.create(
        kind="instance.stop", instance=other.instances.get(), requested_by="user:alice"
    )
    operation = Operation.objects.filter(instance__container=container).get()
    operation.events.create(what="step", step="end")
    number = Container.objects.count()
    import_image(
        tenant=place.tenant, name=f"image-{number}", reference="x/y", requested_by="user:alice"
    )
    owner = place.tenant.memberships.get(role="owner")
    add_member(tenant=place.tenant, user=make_user(), role=Role.VIEWER)
    add_member(tenant=make_tenant(), user=owner.user, role=Role.VIEWER)
    make_token(owner)


def cost_of(place: Place, name: str, given: dict[str, Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert place.get(name, who="owner", **given).status_code in (200, 204)
    return len(queries)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_page_costs_what_it_may_however_much_it_shows(
    place: Place, container: Container, name: str
) -> None:
    Operation.objects.create(
        kind="instance.stop", instance=container.instances.get(), requested_by="user:alice"
    )
    add_more(place, container)
    given = {"uuid": container.pk} if name in ("container", "container-output") else {}
    few = cost_of(place, name, given)
    for _ in range(5):
        add_more(place, container)
    assert cost_of(place, name, given) == few
    assert few <= BUDGETS[name]
