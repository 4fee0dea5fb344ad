import pytest

from hosting.errors import Conflict, InvalidRequest, NotFound
from tenants.choices import Role
from tenants.selectors import find_tenant, members_of, membership_of, tenants_of
from tenants.services import add_member, change_role, create_tenant, remove_member
from tenants.tests.makers import make_member, make_tenant, make_user

pytestmark = pytest.mark.django_db


def test_whoever_founds_a_tenant_owns_it() -> None:
    owner = make_user()
    tenant = make_tenant(owner=owner)
    assert [(m.user, m.role) for m in members_of(tenant)] == [(owner, Role.OWNER)]


def test_a_stranger_does_not_find_the_tenant() -> None:
    make_tenant("acme")
    with pytest.raises(NotFound):
        find_tenant(user=make_user(), slug="acme")


def test_a_person_sees_their_own_tenants_only() -> None:
    owner = make_user()
    ours = make_tenant(owner=owner)
    make_tenant()
    assert list(tenants_of(owner)) == [ours]
    assert find_tenant(user=owner, slug=ours.slug) == ours


def test_a_slug_belongs_to_one_tenant() -> None:
    make_tenant("acme")
    with pytest.raises(Conflict):
        make_tenant("acme")


@pytest.mark.parametrize("slug", ["", "9lives", "Acme", "a_b", "-a", "a-", "a" * 41, "a\n"])
def test_a_slug_that_is_no_label_is_refused(slug: str) -> None:
    with pytest.raises(InvalidRequest):
        create_tenant(slug=slug, name="x", owner=make_user())


def test_nobody_belongs_twice() -> None:
    member = make_member(make_tenant())
    with pytest.raises(Conflict):
        add_member(tenant=member.tenant, user=member.user, role=Role.VIEWER)


def test_the_last_owner_stays() -> None:
    owner = make_user()
    tenant = make_tenant(owner=owner)
    make_member(tenant)
    with pytest.raises(Conflict):
        remove_member(tenant=tenant, user=owner)
    with pytest.raises(Conflict):
        change_role(tenant=tenant, user=owner, role=Role.MEMBER)


def test_an_owner_leaves_once_there_is_another() -> None:
    owner = make_user()
    tenant = make_tenant(owner=owner)
    heir = make_member(tenant)
    change_role(tenant=tenant, user=heir.user, role=Role.OWNER)
    remove_member(tenant=tenant, user=owner)
    assert membership_of(owner, tenant) is None


def test_a_stranger_has_no_role_to_change() -> None:
    with pytest.raises(NotFound):
        change_role(tenant=make_tenant(), user=make_user(), role=Role.OWNER)
