"""Tenants and their containers, and what operators change of a tenant."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from frontend.console.tests.worlds import Fleet
from hosting.alarms.models import AuditEntry
from hosting.compute.tests.makers import make_instance
from tenants.choices import Role
from tenants.models import Quota, Tenant, User
from tenants.services import set_limits
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db

LIMITS = {"containers": "20", "vcpus": "64", "memory_bytes": "64", "disk_bytes": "1024"}


def change(client: Client, **limits: str) -> Any:
    return client.post(reverse("console:tenant-limits", args=["acme"]), {**LIMITS, **limits})


def test_tenants_are_listed_with_what_they_use(fleet: Fleet, operator: Client) -> None:
    html = operator.get(reverse("console:tenants")).content.decode()
    assert "acme" in html
    assert "zeta-laboratories" in html
    assert "1.2 GiB" in html
    narrowed = operator.get(reverse("console:tenants"), {"q": "zet"}).content.decode()
    assert "acme" not in narrowed


def test_the_lists_cost_no_more_for_many(
    fleet: Fleet, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    set_limits(fleet.tenant, {"containers": 100, "vcpus": 100})
    for _ in range(20):
        make_tenant()
        make_instance(fleet.tenant, host=fleet.accepting)
    with django_assert_max_num_queries(6):
        operator.get(reverse("console:tenants"))
    with django_assert_max_num_queries(9):
        operator.get(reverse("console:containers"))
    with django_assert_max_num_queries(12):
        operator.get(reverse("console:tenant", args=["acme"]))


def test_a_limit_is_changed_and_written_down(fleet: Fleet, operator: Client) -> None:
    assert change(operator, memory_bytes="96.5")["Location"] == "/console/tenants/acme/"
    quota = Quota.objects.get(tenant=fleet.tenant)
    assert quota.memory_bytes_limit == int(96.5 * 2**30)
    entry = AuditEntry.objects.get(action="tenant.set_limits")
    assert entry.actor == "user:olga"
    assert entry.facts == {
        "from": {"memory_bytes": 64 * 2**30},
        "to": {"memory_bytes": int(96.5 * 2**30)},
    }


def test_what_is_not_changed_is_not_rounded(fleet: Fleet, operator: Client) -> None:
    odd = 64 * 2**30 + 12345
    set_limits(fleet.tenant, {"memory_bytes": odd})
    change(operator, vcpus="65")
    quota = Quota.objects.get(tenant=fleet.tenant)
    assert (quota.memory_bytes_limit, quota.vcpus_limit) == (odd, 65)


def test_a_limit_below_what_is_used_is_refused_in_words(fleet: Fleet, operator: Client) -> None:
    response = change(operator, containers="1")
    assert response.status_code == 409
    html = response.content.decode()
    assert "More than that is in use." in html
    assert 'value="1"' in html
    assert not AuditEntry.objects.filter(action="tenant.set_limits").exists()


@pytest.mark.parametrize("value", ["", "-1", "x", "1e99", "99999999999999999999"])
def test_what_is_no_limit_is_refused_beside_its_field(
    fleet: Fleet, operator: Client, value: str
) -> None:
    for name in LIMITS:
        response = change(operator, **{name: value})
        assert response.status_code == 400
        assert 'class="wrong"' in response.content.decode()


def test_a_tenant_is_made_with_its_owner_and_quota(operator: Client) -> None:
    alice = User.objects.create_user("alice")
    form = {"slug": "nova", "name": "Nova", "owner": "alice"}
    response = operator.post(reverse("console:new-tenant"), form)
    assert response["Location"] == "/console/tenants/nova/"
    tenant = Tenant.objects.get(slug="nova")
    assert tenant.memberships.get(user=alice).role == Role.OWNER
    assert tenant.quota.containers_limit > 0


def test_a_tenant_that_cannot_be_is_refused_in_words(operator: Client) -> None:
    make_tenant("nova", owner=User.objects.create_user("alice"))
    address = reverse("console:new-tenant")
    taken = operator.post(address, {"slug": "nova", "name": "Nova", "owner": "alice"})
    assert taken.status_code == 409
    assert "That name is taken." in taken.content.decode()
    wrong = operator.post(address, {"slug": "No!", "name": "", "owner": "nobody"})
    assert wrong.status_code == 400
    html = wrong.content.decode()
    assert "Nobody signs in with that name." in html
    assert html.count('class="wrong"') == 3


def test_containers_are_found_by_name_tenant_image_and_uuid(fleet: Fleet, operator: Client) -> None:
    make_instance(make_tenant("other"))
    container = fleet.instances[0].container
    image = container.version.image.name
    for text in (container.name, str(container.pk), str(fleet.instances[0].pk), image):
        response = operator.get(reverse("console:containers"), {"q": text})
        assert [one.container for one in response.context["containers"]] == [container]
    for text, count in (("acme", 5), ("nothing", 0), ("", 6)):
        response = operator.get(reverse("console:containers"), {"q": text})
        assert len(response.context["containers"]) == count
