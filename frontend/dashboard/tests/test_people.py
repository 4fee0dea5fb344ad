"""People and tokens: seen by all, or by owners alone; changed by owners."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from frontend.dashboard.tests.conftest import Place
from tenants.choices import Role
from tenants.models import ApiToken, Membership
from tenants.selectors import find_token

pytestmark = pytest.mark.django_db


def member_of(place: Place, role: Role) -> Membership:
    return place.tenant.memberships.get(role=role)


def test_people_are_shown_with_their_roles(place: Place) -> None:
    html = place.html("people", who="viewer")
    assert "alice" in html
    assert member_of(place, Role.MEMBER).user.username in html
    assert "<form" not in html.partition("<main")[2]


def test_an_owner_changes_roles(place: Place) -> None:
    viewer = member_of(place, Role.VIEWER)
    place.post("member-role", {"role": "member"}, who="owner", number=viewer.pk)
    viewer.refresh_from_db()
    assert viewer.role == Role.MEMBER
    assert "is a member now" in place.html("people", who="owner")


def test_the_last_owner_stays_and_is_told_why(place: Place) -> None:
    owner = member_of(place, Role.OWNER)
    for name, data in (("member-role", {"role": "viewer"}), ("member-remove", {})):
        answer = place.post(name, data, who="owner", number=owner.pk)
        assert answer.status_code == 409
        assert "A tenant keeps at least one owner." in answer.content.decode()


def test_there_is_no_such_role(place: Place) -> None:
    number = member_of(place, Role.VIEWER).pk
    assert (
        place.post("member-role", {"role": "king"}, who="owner", number=number).status_code == 404
    )


def test_an_owner_removes_people(place: Place) -> None:
    viewer = member_of(place, Role.VIEWER)
    asked_back = place.html("member-remove", who="owner", number=viewer.pk)
    assert f"Remove {viewer.user.username}?" in asked_back
    place.post("member-remove", who="owner", number=viewer.pk)
    assert not Membership.objects.filter(pk=viewer.pk).exists()
    assert place.get("containers", who="viewer").status_code == 404


# -------------------------------------------------------------------------------------------------- tokens


def make(place: Place, **given: object) -> ApiToken:
    form = {"name": "ci", "scopes": ["view", "operate"], "days": "7", **given}
    assert place.post("token-new", form, who="owner").status_code == 201
    return ApiToken.objects.get(name=form["name"])


def test_the_secret_of_a_token_is_shown_once(place: Place) -> None:
    form = {"name": "ci", "scopes": ["view", "operate"], "days": "7"}
    answer = place.post("token-new", form, who="owner")
    secret = answer.context["secret"]
    assert secret in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert secret not in place.html("tokens", who="owner")
    token = find_token(secret)
    assert token is not None
    assert token.scopes == ["operate", "view"]
    assert timedelta(days=6) < token.expires_at - timezone.now() <= timedelta(days=7)


WRONG = [
    ({"name": ""}, "name"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["everything"]}, "scopes"),
    ({"days": "9999"}, "days"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
def test_what_is_wrong_is_said_at_its_field(
    place: Place, wrong: dict[str, object], field: str
) -> None:
    form = {"name": "ci", "scopes": ["view"], "days": "7", **wrong}
    answer = place.post("token-new", form, who="owner")
    assert answer.status_code == 400
    assert answer.context["form"].errors[field]
    assert f'id="field-{field}_error"' in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_a_token_is_revoked_and_then_offers_nothing_more(place: Place) -> None:
    token = make(place)
    address = place.address("token-revoke", uuid=token.pk)
    assert address in place.html("tokens", who="owner")
    place.post("token-revoke", who="owner", uuid=token.pk)
    html = place.html("tokens", who="owner")
    assert "ci opens nothing any more." in html
    assert "revoked" in html
    assert address not in html


def test_a_token_past_its_time_says_so(place: Place) -> None:
    make(place)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert ">ended<" in place.html("tokens", who="owner")
