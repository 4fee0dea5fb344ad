"""Reading: a tenant, its people, tokens and quota."""

from hashlib import sha256

from django.db.models import Count, F, QuerySet

from hosting.errors import NotFound
from tenants.models import ApiToken, Membership, Quota, Tenant, User


def tenants_of(user: User) -> QuerySet[Tenant]:
    """Those `user` belongs to."""
    return Tenant.objects.held_by(user)


def tenants() -> QuerySet[Tenant]:
    """All, each with its quota and `member_count`: for operators."""
    return (
        Tenant.objects.select_related("quota")
        .annotate(member_count=Count("memberships"))
        .order_by("slug")
    )


def find_tenant(*, user: User, slug: str) -> Tenant:
    """The tenant `slug` if `user` belongs to it. Raises NotFound: strangers learn nothing."""
    tenant = tenants_of(user).filter(slug=slug).first()
    if tenant is None:
        raise NotFound(slug=slug)
    return tenant


def membership_of(user: User, tenant: Tenant) -> Membership | None:
    """What `user` is in `tenant`."""
    return Membership.objects.filter(user=user, tenant=tenant).first()


def memberships_of(user: User) -> QuerySet[Membership]:
    """What `user` is, and where, with each tenant."""
    return user.memberships.select_related("tenant").order_by("tenant__slug")


def quota_of(tenant: Tenant) -> Quota:
    return Quota.objects.get(tenant=tenant)


def members_of(tenant: Tenant) -> QuerySet[Membership]:
    """Its people, by name."""
    return tenant.memberships.select_related("user").order_by("user__username")


def tokens_of(tenant: Tenant) -> QuerySet[ApiToken]:
    """All its tokens, the newest first, dead ones too."""
    return tenant.tokens.select_related("created_by")


def find_token(secret: str) -> ApiToken | None:
    """The live token whose secret this is, with its maker's `role`, who must still belong to the tenant."""
    makers = {"role": F("tenant__memberships__role")}
    found = (
        ApiToken.objects.live()
        .filter(digest=digest_of(secret))
        .filter(created_by__is_active=True, tenant__memberships__user=F("created_by"))
        .annotate(**makers)
        .select_related("tenant", "created_by")
    )
    return next(iter(found.order_by()), None)


def digest_of(secret: str) -> str:
    """What is kept of a token. The secret is random and long: a plain hash cannot be searched back."""
    return sha256(secret.encode()).hexdigest()
