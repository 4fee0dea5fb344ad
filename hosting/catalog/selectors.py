"""Reading the catalogue."""

from uuid import UUID

from django.db.models import QuerySet

from hosting.catalog.models import GoldenDisk, Image, ImageQuerySet
from hosting.errors import NotFound
from tenants.models import Tenant


def images_of(tenant: Tenant) -> ImageQuerySet:
    """What `tenant` may make containers from: its own and everybody's, by name, with what they are now."""
    return Image.objects.all().seen_by(tenant).select_related("current").order_by("name", "uuid")


def find_image(*, tenant: Tenant, uuid: UUID) -> Image:
    """Raises NotFound, for another tenant's as well."""
    image = images_of(tenant).filter(pk=uuid).first()
    if image is None:
        raise NotFound("There is no such image.", image=uuid)
    return image


def images() -> ImageQuerySet:
    """All present ones, for operators."""
    return (
        Image.objects.all()
        .present()
        .select_related("current", "tenant")
        .order_by("tenant__slug", "name")
    )


def golden_disks_of(digest: str) -> QuerySet[GoldenDisk]:
    """Where the root of this digest is, or is about to be."""
    return GoldenDisk.objects.filter(digest=digest).select_related("pool")
