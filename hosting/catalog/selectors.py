"""Reading the catalogue."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Prefetch, Q, QuerySet

from hosting.catalog.choices import ImageState
from hosting.catalog.models import GoldenDisk, Image, ImageQuerySet
from hosting.errors import NotFound
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class ObservedImage:
    """An image as people look at it. `operation`: the newest about it, which may have ended."""

    image: Image
    operation: Operation | None
    state: ImageState

    @property
    def is_busy(self) -> bool:
        return self.operation is not None and not self.operation.has_ended

    @property
    def trouble(self) -> str:
        """Why its last import ended badly; empty when it did not."""
        if self.operation is None or self.operation.state not in (State.FAILED, State.CANCELLED):
            return ""
        return self.operation.error or "Nobody knows why."


def images_of(tenant: Tenant) -> ImageQuerySet:
    """What `tenant` may make containers from: its own and everybody's, by name, with what they are now."""
    return Image.objects.all().seen_by(tenant).select_related("current").order_by("name", "uuid")


def images_with_news(tenant: Tenant) -> ImageQuerySet:
    """As images_of gives them, each with its newest operation and how many of the tenant's containers
    (`container_count`) are made from it. Two queries.
    """
    theirs = Q(versions__containers__tenant=tenant, versions__containers__deleted_at=None)
    newest = Operation.objects.order_by("image_id", "-created_at", "uuid").distinct("image_id")
    return (
        images_of(tenant)
        .annotate(container_count=Count("versions__containers", filter=theirs))
        .prefetch_related(Prefetch("operations", newest, to_attr="newest_operations"))
    )


def observe_image(image: Image) -> ObservedImage:
    """No query when `image` comes from images_with_news.

    One of which no operation is to be seen, and that is not ready, is on its way.
    """
    operation = next(iter(_newest_of(image)), None)
    if image.current_id is not None:
        return ObservedImage(image, operation, ImageState.READY)
    has_failed = operation is not None and operation.has_ended
    state = ImageState.FAILED if has_failed else ImageState.IMPORTING
    return ObservedImage(image, operation, state)


def _newest_of(image: Image) -> list[Operation]:
    if not hasattr(image, "newest_operations"):
        return list(Operation.objects.filter(image=image).order_by("-created_at", "uuid")[:1])
    found: list[Operation] = image.newest_operations
    return found


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
    return GoldenDisk.objects.filter(digest=digest).select_related("pool").defer("pool__candidates")
