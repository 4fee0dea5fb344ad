"""Where a person lands, and how they get elsewhere."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from frontend.dashboard.tests.conftest import Place, client_of
from tenants.choices import Role
from tenants.services import add_member
from tenants.tests.makers import make_tenant, make_user

pytestmark = pytest.mark.django_db


def test_a_stranger_signs_in_first(client: Client) -> None:
    assert client.get("/")["Location"] == "/login/?next=/"


def test_a_person_of_one_tenant_lands_there(place: Place) -> None:
    assert place.clients["viewer"].get("/")["Location"] == "/t/acme/"


def test_a_person_of_several_chooses(place: Place) -> None:
    user = make_user()
    other = make_tenant("beta", owner=user)
    add_member(tenant=place.tenant, user=user, role=Role.VIEWER)
    html = client_of(user).get("/").content.decode()
    assert "/t/acme/" in html
    assert "/t/beta/" in html
    assert "you are an owner" in html
    assert "you are a viewer" in html
    assert other.name in html


def test_an_operator_without_a_tenant_lands_at_the_console(place: Place) -> None:
    assert place.clients["operator"].get("/")["Location"] == reverse("console:pools")


def test_a_person_of_no_tenant_is_told_what_to_do(client: Client) -> None:
    client.force_login(make_user("nobody"))
    html = client.get("/").content.decode()
    assert "Ask an operator" in html
    assert "nobody" in html


def test_whoever_has_several_tenants_switches_in_the_head_of_each_page(place: Place) -> None:
    user = make_user()
    make_tenant("beta", owner=user)
    add_member(tenant=place.tenant, user=user, role=Role.VIEWER)
    assert 'href="/t/beta/"' in client_of(user).get("/t/acme/").content.decode()
    assert "<details" not in place.html("containers")  # there is nothing to switch to


def test_an_operator_finds_the_console_from_their_tenant_and_others_do_not(place: Place) -> None:
    operator = make_user(is_staff=True)
    add_member(tenant=place.tenant, user=operator, role=Role.MEMBER)
    console = reverse("console:pools")
    assert console in client_of(operator).get("/t/acme/").content.decode()
    assert console not in place.html("containers")


def test_a_part_that_is_asked_for_after_the_login_is_over_takes_the_whole_page_along(
    place: Place,
) -> None:
    answer = place.clients["anonymous"].get(
        place.address("containers"),
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/t/acme/?q=web"},
    )
    assert answer["HX-Redirect"] == "/login/?next=/t/acme/%3Fq%3Dweb"


def test_only_owners_see_the_way_to_tokens(place: Place) -> None:
    tokens = place.address("tokens")
    assert tokens in place.html("containers", who="owner")
    assert tokens not in place.html("containers", who="member")
