"""What workflows hold: images by name, and root disks of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from django.conf import settings

from worker.images import builders
from worker.images.disk import BootFiles
from worker.images.reach import Reach
from worker.images.records import Credentials, Limits, Platform, Resolved, RootDisk
from worker.images.reference import Reference
from worker.images.registry import Repository
from worker.images.spool import Spool
from worker.images.ways import Ways


@dataclass(frozen=True)
class Images:
    """Keeps no connection and no state: any process may make one, at any time."""

    spool: Spool
    reach: Reach = field(default_factory=Reach)
    builder: builders.Builder = field(default_factory=builders.ErofsDisk)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """By tenant's slug; "*" for those that are not named."""
    ways: Ways = field(default_factory=Ways)

    @classmethod
    def by_settings(cls) -> Self:
        """As the operator set it: IMAGE_* in docs/settings.md. Raises ImproperlyConfigured."""
        reach = Reach.parse(
            allowed=settings.IMAGE_ALLOWED_NETWORKS,
            plain_http=settings.IMAGE_PLAIN_HTTP_REGISTRIES,
            ca_file=settings.IMAGE_CERTIFICATES or None,
        )
        boot = BootFiles.of(Path(settings.GUEST_BOOT)) if settings.GUEST_BOOT else None
        given: dict[str, dict[str, int]] = settings.IMAGE_LIMITS
        everybody = given.get("*", {})
        limits = {name: Limits.of({**everybody, **amounts}) for name, amounts in given.items()}
        builder = builders.ErofsDisk(boot)
        return cls(Spool(settings.IMAGE_SPOOL), reach, builder, limits, Ways.by_settings())

    def limits_of(self, tenant: str) -> Limits:
        """Those of the tenant with this slug; of an image that is everybody's, with "" for a slug."""
        return self.limits.get(tenant) or self.limits.get("*") or Limits()

    def resolve(
        self,
        reference: Reference,
        *,
        credentials: Credentials | None = None,
        platform: Platform | None = None,
        limits: Limits | None = None,
    ) -> Resolved:
        """Which image a name means now, pinned. Seconds, and no layer is pulled.

        Resolving `Resolved.reference` again gives the same, so a later step needs only that text.
        Raises ImageRefused, ImageUnavailable.
        """
        with Repository(
            reference, credentials, self.reach, limits or Limits(), self.ways
        ) as repository:
            return repository.resolve(platform or Platform())

    def build(
        self,
        image: Resolved,
        target: BinaryIO,
        *,
        credentials: Credentials | None = None,
        limits: Limits | None = None,
    ) -> RootDisk:
        """Write the image's root disk to `target`, an empty file, e.g. one of `spool`'s.

        Minutes for large images, `limits.duration` at most. On any error `target` holds
        rubbish. Raises ImageRefused, ImageUnavailable.
        """
        limits = limits or Limits()
        with Repository(image.reference, credentials, self.reach, limits, self.ways) as repository:
            disk = self.builder.build(image, repository, target, self.spool, limits)
        if self.ways.cache is not None:
            self.ways.cache.trim()
        return disk
