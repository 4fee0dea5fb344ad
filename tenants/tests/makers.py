"""Rows for tests; every argument may be given."""

from datetime import timedelta
from itertools import count

from django.utils import timezone

from tenants.choices import Role, Scope
from tenants.models import ApiToken, Membership, Tenant, User
from tenants.services import add_member, create_tenant, create_token

_numbers = count(1)


def make_user(name: str = "", *, email: str = "", is_staff: bool = False) -> User:
    name = name or f"person{next(_numbers)}"
    return User.objects.create(username=name, email=email, is_staff=is_staff)


def make_tenant(slug: str = "", *, owner: User | None = None, **limits: int) -> Tenant:
    slug = slug or f"tenant{next(_numbers)}"
    return create_tenant(slug=slug, name=slug.title(), owner=owner or make_user(), limits=limits)


def make_member(tenant: Tenant, role: Role = Role.MEMBER) -> Membership:
    return add_member(tenant=tenant, user=make_user(), role=role)


def make_token(
    membership: Membership, *scopes: Scope, life: timedelta = timedelta(days=1)
) -> tuple[ApiToken, str]:
    return create_token(
        tenant=membership.tenant,
        user=membership.user,
        name="ci",
        scopes=scopes or (Scope.VIEW,),
        expires_at=timezone.now() + life,
    )
