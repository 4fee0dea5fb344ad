"""Who owns, who may, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import and_
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower, Now

from tenants.choices import DIMENSIONS, Role, Scope

is_slug = RegexValidator(
    r"\A[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?\Z",
    "Small letters, digits and hyphens; starts with a letter, ends with no hyphen; 40 at most.",
)


class User(AbstractUser):
    """A person who signs in. Operators are `is_staff`; everything else comes from Memberships."""

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email_once", condition=~Q(email="")),
        ]

    @property
    def as_actor(self) -> str:
        """This person as operations and audit entries name them: at most 120 characters."""
        name = self.get_username()
        return f"user:{name}" if len(name) <= 100 else f"user:{self.pk}"


class TenantQuerySet(models.QuerySet["Tenant"]):
    def held_by(self, user: User) -> TenantQuerySet:
        """Those in which `user` is somebody."""
        return self.filter(memberships__user=user)

    def locked(self, uuid: UUID) -> Tenant:
        """This one, with nobody else changing who belongs to it until the transaction ends."""
        return self.select_for_update(no_key=True).get(pk=uuid)


class Tenant(models.Model):
    """Who owns things. Whatever belongs to one is reached only through it."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    slug = models.CharField(max_length=40, unique=True, validators=[is_slug])
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                name="tenant_slug_is_a_label",
                condition=Q(slug__regex=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"),
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """One person in one tenant."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=6, choices=Role)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="one_membership_per_person"),
            models.CheckConstraint(
                name="membership_role_is_known", condition=Q(role__in=Role.values)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} as {self.role}"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def live(self) -> ApiTokenQuerySet:
        """Neither revoked nor past their time, by the database's clock."""
        return self.filter(revoked_at=None, expires_at__gt=Now())

    def revoke(self) -> int:
        return self.filter(revoked_at=None).update(revoked_at=Now())


class ApiToken(models.Model):
    """A program's way in. Only the digest of the secret is kept; the prefix is for people to tell by."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="tokens")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=11, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False, help_text="SHA-256, hex.")
    scopes = ArrayField(models.CharField(max_length=7, choices=Scope))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    # By find_token(): its maker's, in the tenant
    role: str

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                name="token_has_known_scopes",
                condition=Q(scopes__len__gt=0, scopes__contained_by=Scope.values),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class QuotaQuerySet(models.QuerySet["Quota"]):
    def take(self, amounts: Mapping[str, int]) -> bool:
        """Take all of `amounts` (by dimension) or nothing; False when one of them does not fit."""
        room = {
            f"{name}_limit__gte": F(f"{name}_used") + amount for name, amount in amounts.items()
        }
        taken = {f"{name}_used": F(f"{name}_used") + amount for name, amount in amounts.items()}
        return bool(self.filter(**room).update(**taken))

    def give_back(self, amounts: Mapping[str, int]) -> None:
        """Raises IntegrityError when more comes back than was taken: that is a bug of ours."""
        self.update(
            **{f"{name}_used": F(f"{name}_used") - amount for name, amount in amounts.items()}
        )

    def limit_to(self, limits: Mapping[str, int]) -> bool:
        """Set `limits`; False when one of them is less than what is used."""
        fits = {f"{name}_used__lte": limit for name, limit in limits.items()}
        values = {f"{name}_limit": limit for name, limit in limits.items()}
        return bool(self.filter(**fits).update(**values))


class Quota(models.Model):
    """How much a tenant may have, and how much of that it has taken. Changed by guarded updates only."""

    tenant = models.OneToOneField(Tenant, models.CASCADE, primary_key=True, related_name="quota")
    containers_limit = models.PositiveIntegerField(default=10)
    containers_used = models.PositiveIntegerField(default=0, editable=False)
    vcpus_limit = models.PositiveIntegerField(default=16)
    vcpus_used = models.PositiveIntegerField(default=0, editable=False)
    memory_bytes_limit = models.PositiveBigIntegerField(default=16 * 2**30)
    memory_bytes_used = models.PositiveBigIntegerField(default=0, editable=False)
    disk_bytes_limit = models.PositiveBigIntegerField(default=100 * 2**30)
    disk_bytes_used = models.PositiveBigIntegerField(default=0, editable=False)

    objects = QuotaQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="quota_not_exceeded",
                condition=reduce(
                    and_, (Q(**{f"{name}_used__lte": F(f"{name}_limit")}) for name in DIMENSIONS)
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"quota of {self.tenant}"
