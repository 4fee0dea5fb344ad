from datetime import timedelta

import pytest
from django.utils import timezone

from hosting.errors import InvalidRequest, NotFound
from tenants.choices import Role, Scope
from tenants.models import ApiToken
from tenants.selectors import find_token, tokens_of
from tenants.services import create_token, note_use, remove_member, revoke_token
from tenants.tests.makers import make_member, make_tenant, make_token, make_user

pytestmark = pytest.mark.django_db


def test_a_token_is_found_by_its_secret() -> None:
    token, secret = make_token(make_member(make_tenant()))
    assert find_token(secret) == token
    assert secret.startswith("bh_")
    assert secret.startswith(token.prefix)


def test_the_secret_is_kept_nowhere() -> None:
    _, secret = make_token(make_member(make_tenant()))
    row = ApiToken.objects.values().get()
    assert not any(secret in str(value) or secret[11:] in str(value) for value in row.values())


def test_another_secret_finds_nothing() -> None:
    _, secret = make_token(make_member(make_tenant()))
    assert find_token(secret[:-1] + ("a" if secret[-1] != "a" else "b")) is None


def test_a_revoked_token_is_dead() -> None:
    token, secret = make_token(make_member(make_tenant()))
    revoke_token(token)
    assert find_token(secret) is None


def test_a_token_ends_with_its_time() -> None:
    token, secret = make_token(make_member(make_tenant()))
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert find_token(secret) is None


def test_a_token_ends_when_its_maker_leaves() -> None:
    member = make_member(make_tenant())
    token, secret = make_token(member)
    remove_member(tenant=member.tenant, user=member.user)
    assert find_token(secret) is None
    assert tokens_of(member.tenant).get() == token


def test_a_token_ends_when_its_maker_is_locked_out() -> None:
    member = make_member(make_tenant())
    _, secret = make_token(member)
    member.user.is_active = False
    member.user.save()
    assert find_token(secret) is None


def test_nobody_makes_a_token_wider_than_their_role() -> None:
    with pytest.raises(InvalidRequest):
        make_token(make_member(make_tenant(), Role.VIEWER), Scope.OPERATE)


@pytest.mark.parametrize("life", [timedelta(seconds=-1), timedelta(days=400)])
def test_a_token_lives_a_year_at_most(life: timedelta) -> None:
    with pytest.raises(InvalidRequest):
        make_token(make_member(make_tenant()), life=life)


def test_a_stranger_makes_no_token() -> None:
    with pytest.raises(NotFound):
        create_token(
            tenant=make_tenant(),
            user=make_user(),
            name="x",
            scopes=[Scope.VIEW],
            expires_at=timezone.now() + timedelta(days=1),
        )


def test_its_last_use_is_written_once_a_minute() -> None:
    token, _ = make_token(make_member(make_tenant()))
    note_use(token)
    token.refresh_from_db()
    first = token.last_used_at
    note_use(token)
    token.refresh_from_db()
    assert first is not None
    assert token.last_used_at == first
