"""What containers are made from: images, pinned, and the disks that hold them."""

from __future__ import annotations

from uuid import uuid4

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from hosting.catalog.choices import DiskState
from hosting.fleet.models import Pool
from tenants.models import Tenant, is_slug

DIGEST = r"^sha256:[0-9a-f]{64}$"


class ImageQuerySet(models.QuerySet["Image"]):
    def present(self) -> ImageQuerySet:
        return self.filter(removed_at=None)

    def seen_by(self, tenant: Tenant) -> ImageQuerySet:
        """The tenant's own, and those that are everybody's."""
        return self.present().filter(Q(tenant=tenant) | Q(tenant=None))

    def remove(self) -> bool:
        return bool(self.present().update(removed_at=Now()))


class Image(models.Model):
    """A catalogue entry: a name for an OCI reference, and the digest that it is pinned to now."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, null=True, blank=True, related_name="images", help_text="None: all."
    )
    name = models.CharField(max_length=40, validators=[is_slug])
    reference = models.CharField(
        max_length=500, help_text='Where it comes from, e.g. "docker.io/library/nginx:1.27".'
    )
    current = models.ForeignKey(
        "ImageVersion",
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        help_text="What new containers get. None: not imported yet.",
    )
    pool = models.ForeignKey(
        Pool,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        help_text="Where its operation works at the moment.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    removed_at = models.DateTimeField(null=True, editable=False)

    objects = ImageQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="one_image_of_a_name",
                condition=Q(removed_at=None),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="image_name_is_a_label",
                condition=Q(name__regex=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"),
            ),
            models.CheckConstraint(name="image_has_a_reference", condition=~Q(reference="")),
        ]

    def __str__(self) -> str:
        return self.name

    def is_seen_by(self, tenant: Tenant) -> bool:
        """By what was read of it; `ImageQuerySet.seen_by` asks the database."""
        return self.removed_at is None and self.tenant_id in (None, tenant.pk)


class ImageVersion(models.Model):
    """An image as it was at one time: a manifest's digest and what it asks to be run. Never changed."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    image = models.ForeignKey(Image, models.CASCADE, related_name="versions")
    digest = models.CharField(max_length=71, help_text='Of the manifest: "sha256:…".')
    config = models.JSONField(
        default=dict,
        help_text="What the image asks for: entrypoint, cmd, env, working_dir, user, stop_signal.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["image", "digest"], name="one_version_of_a_digest"),
            models.CheckConstraint(
                name="version_is_pinned_by_digest", condition=Q(digest__regex=DIGEST)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.image_id} at {self.digest[:19]}"


class GoldenDiskQuerySet(models.QuerySet["GoldenDisk"]):
    def ready(self) -> GoldenDiskQuerySet:
        return self.filter(state=DiskState.READY)

    def needless(self) -> GoldenDiskQuerySet:
        """Those whose digest no present image has, and no container runs from."""
        wanted = ImageVersion.objects.filter(digest=models.OuterRef("digest")).filter(
            Q(image__removed_at=None) | Q(containers__deleted_at=None, containers__isnull=False)
        )
        return self.exclude(models.Exists(wanted))


class GoldenDisk(models.Model):
    """A VDI that holds an image's root, to be cloned and never attached.

    One per digest, builder and SR, whoever's image it is: what is in it follows from the digest alone.
    """

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    digest = models.CharField(max_length=71)
    builder_version = models.CharField(max_length=40)
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="golden_disks")
    sr_uuid = models.UUIDField()
    state = models.CharField(max_length=9, choices=DiskState, default=DiskState.IMPORTING)
    vdi_uuid = models.UUIDField(null=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = GoldenDiskQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["digest", "builder_version", "sr_uuid"], name="one_golden_disk_per_sr"
            ),
            models.CheckConstraint(
                name="golden_disk_state_is_known", condition=Q(state__in=DiskState.values)
            ),
            models.CheckConstraint(
                name="golden_disk_is_pinned_by_digest", condition=Q(digest__regex=DIGEST)
            ),
            models.CheckConstraint(
                name="golden_disk_is_ready_with_its_vdi",
                condition=~Q(state=DiskState.READY) | Q(vdi_uuid__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.digest[:19]} on {self.sr_uuid}"
