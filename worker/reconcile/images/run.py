"""Opens imports into pools that lack an image, and removals of disks that nobody needs."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from hosting.catalog.models import GoldenDisk, Image, ImageVersion
from hosting.errors import Conflict
from hosting.fleet.models import Pool, StorageRepository
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import request
from worker.reconcile.images.diff import Begin, View, diff

REQUESTED_BY = "system:reconcile"
LET_BE = timedelta(minutes=10)


def reconcile_images() -> int:
    """How many operations were opened."""
    shared = StorageRepository.objects.filter(uuid=OuterRef("default_sr_uuid"), shared=True)
    pools = Pool.objects.filter(Exists(shared)).values_list("pk", flat=True)
    ready = GoldenDisk.objects.all().ready().values_list("digest", "pool_id")
    return sum(_begin(one) for one in diff(_views(), frozenset(pools), frozenset(ready)))


def _views() -> list[View]:
    operations = Operation.objects.filter(image=OuterRef("pk"))
    versions = ImageVersion.objects.filter(image=OuterRef(OuterRef("pk")))
    needless = GoldenDisk.objects.all().needless()
    failed = operations.filter(state=State.FAILED, ended_at__gt=Now() - LET_BE)
    idle = Image.objects.filter(
        ~Exists(operations.filter(state__in=[State.ACTIVE, State.QUEUED]))
    ).annotate(
        failed_lately=Exists(failed),
        has_needless_disks=Exists(
            needless.filter(digest__in=versions.values("digest")),
        ),
    )
    rows = idle.filter(Q(removed_at=None) | Q(has_needless_disks=True)).select_related("current")
    return [
        View(
            uuid=image.pk,
            digest=image.current.digest if image.current is not None else None,
            is_removed=image.removed_at is not None,
            has_needless_disks=bool(getattr(image, "has_needless_disks", False)),
            failed_lately=bool(getattr(image, "failed_lately", False)),
        )
        for image in rows.order_by("created_at", "pk")
    ]


def _begin(begin: Begin) -> bool:
    """False when somebody else was faster."""
    facts = {} if begin.digest is None else {"digest": begin.digest}
    image = Image.objects.get(pk=begin.image)
    try:
        request(begin.act.value, image, requested_by=REQUESTED_BY, facts=facts)
    except Conflict:
        return False
    return True
