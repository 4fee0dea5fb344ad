"""Writing: tenants, people, tokens, quota."""

import secrets
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from hosting.alarms.services import record_audit
from hosting.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from tenants.choices import DIMENSIONS, Role, Scope
from tenants.models import ApiToken, Membership, Quota, Tenant, User, is_slug
from tenants.permissions import Action, may, require
from tenants.selectors import digest_of, membership_of

TOKEN_MARK = "bh_"
_LONGEST_TOKEN_LIFE = timedelta(days=366)
# A token's last use is told to the minute: a row is not written for each request.
_USE_GRAIN = timedelta(minutes=1)


@transaction.atomic
def create_tenant(
    *, slug: str, name: str, owner: User, limits: Mapping[str, int] | None = None
) -> Tenant:
    """A tenant with its first owner and its quota. Raises InvalidRequest, Conflict (the slug is taken)."""
    try:
        is_slug(slug)
    except ValidationError as error:
        raise InvalidRequest(f"slug: {error.messages[0]}", slug=slug) from error
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(slug=slug, name=name)
    except IntegrityError as error:
        raise Conflict("That name is taken.", code="name_taken", slug=slug) from error
    Membership.objects.create(tenant=tenant, user=owner, role=Role.OWNER)
    Quota.objects.create(tenant=tenant, **_columns("limit", limits or {}))
    return tenant


@transaction.atomic
def add_member(*, tenant: Tenant, user: User, role: Role) -> Membership:
    """`user` in `tenant`; Conflict when there already."""
    membership, made = Membership.objects.get_or_create(
        tenant=tenant, user=user, defaults={"role": role}
    )
    if not made:
        raise Conflict("That person belongs to the tenant already.", code="already_member")
    return membership


@transaction.atomic
def change_role(*, tenant: Tenant, user: User, role: Role) -> Membership:
    """Raises NotFound, and Conflict rather than leave the tenant without an owner."""
    Tenant.objects.locked(tenant.pk)
    membership = _membership(tenant, user)
    if role != Role.OWNER:
        _assert_another_owner(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    return membership


@transaction.atomic
def remove_member(*, tenant: Tenant, user: User) -> None:
    """Out, and with them the tokens they made. Raises as change_role does."""
    Tenant.objects.locked(tenant.pk)
    membership = _membership(tenant, user)
    _assert_another_owner(membership)
    ApiToken.objects.filter(tenant=tenant, created_by=user).revoke()
    membership.delete()


def create_token(
    *, tenant: Tenant, user: User, name: str, scopes: Collection[Scope], expires_at: datetime
) -> tuple[ApiToken, str]:
    """A token and its secret, which is shown this once and kept nowhere.

    Raises NotFound (`user` is a stranger), Forbidden or InvalidRequest when they ask for too much.
    """
    membership = require(membership_of(user, tenant), Action.VIEW)
    too_wide = [scope.value for scope in scopes if not may(membership.role, Action(scope.value))]
    if not scopes or too_wide:
        raise InvalidRequest(
            "A token has scopes, and none beyond its maker's own role.",
            code="scope_too_wide",
            scopes=too_wide,
        )
    if not timezone.now() < expires_at <= timezone.now() + _LONGEST_TOKEN_LIFE:
        raise InvalidRequest("A token ends within a year from now.", code="expiry_out_of_range")
    secret = TOKEN_MARK + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        tenant=tenant,
        created_by=user,
        name=name,
        prefix=secret[: len(TOKEN_MARK) + 8],
        digest=digest_of(secret),
        scopes=sorted({scope.value for scope in scopes}),
        expires_at=expires_at,
    )
    return token, secret


def revoke_token(token: ApiToken) -> None:
    """Dead from now on; once is as good as twice."""
    ApiToken.objects.filter(pk=token.pk).revoke()


def note_use(token: ApiToken) -> None:
    """That `token` was used, to the minute."""
    if token.last_used_at is None or timezone.now() - token.last_used_at > _USE_GRAIN:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=Now())


def take_quota(tenant: Tenant, amounts: Mapping[str, int]) -> None:
    """Take `amounts` (by dimension; bytes where the name says so), all or nothing.

    To be called in the transaction that records the wish. Raises QuotaExceeded, which names what is short.
    """
    _assert_dimensions(amounts)
    if not Quota.objects.filter(tenant=tenant).take(amounts):
        raise _exceeded(Quota.objects.get(tenant=tenant), amounts)


def give_back_quota(tenant: Tenant, amounts: Mapping[str, int]) -> None:
    """The way back, in the transaction that records the end."""
    _assert_dimensions(amounts)
    Quota.objects.filter(tenant=tenant).give_back(amounts)


def set_limits(tenant: Tenant, limits: Mapping[str, int]) -> None:
    """Raises Conflict when a limit would be below what is used."""
    _assert_dimensions(limits)
    if not Quota.objects.filter(tenant=tenant).limit_to(limits):
        raise Conflict("More than that is in use.", code="limit_below_use", limits=dict(limits))


@transaction.atomic
def change_limits(
    *, tenant: Tenant, limits: Mapping[str, int], actor: str, address: str | None = None
) -> None:
    """`set_limits` by a person: written down with what it was before. Raises as that does."""
    quota = Quota.objects.get(tenant=tenant)
    before = {name: getattr(quota, f"{name}_limit") for name in limits}
    set_limits(tenant, limits)
    record_audit(
        actor=actor,
        action="tenant.set_limits",
        subject=f"tenant:{tenant.pk}",
        facts={"from": before, "to": dict(limits)},
        address=address,
    )


def _membership(tenant: Tenant, user: User) -> Membership:
    membership = membership_of(user, tenant)
    if membership is None:
        raise NotFound("That person does not belong to the tenant.")
    return membership


def _assert_another_owner(membership: Membership) -> None:
    others = Membership.objects.filter(tenant=membership.tenant_id, role=Role.OWNER)
    if membership.role == Role.OWNER and not others.exclude(pk=membership.pk).exists():
        raise Conflict("A tenant keeps at least one owner.", code="last_owner")


def _assert_dimensions(amounts: Mapping[str, int]) -> None:
    wrong = [name for name, amount in amounts.items() if name not in DIMENSIONS or amount < 0]
    if wrong or not amounts:
        raise ValueError(f"not amounts of a quota: {wrong or amounts}")


def _columns(kind: str, amounts: Mapping[str, int]) -> dict[str, int]:
    return {f"{name}_{kind}": amount for name, amount in amounts.items()}


def _exceeded(quota: Quota, amounts: Mapping[str, int]) -> QuotaExceeded:
    left = {
        name: getattr(quota, f"{name}_limit") - getattr(quota, f"{name}_used") for name in amounts
    }
    short = [
        f"{name} ({left[name]} left)" for name, amount in amounts.items() if amount > left[name]
    ]
    return QuotaExceeded(
        f"The tenant's quota leaves too little: {', '.join(short) or 'look again'}.",
        asked=dict(amounts),
        left=left,
    )
