"""What workflows hold: images by name, and root disks of them."""

from dataclasses import dataclass, field
from typing import BinaryIO, Self

from django.conf import settings

from worker.images import builders
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
    builder: builders.Builder = builders.CURRENT
    ways: Ways = field(default_factory=Ways)

    @classmethod
    def by_settings(cls) -> Self:
        """As the operator set it: IMAGE_* in docs/settings.md. Raises ImproperlyConfigured."""
        reach = Reach.parse(
            allowed=settings.IMAGE_ALLOWED_NETWORKS,
            plain_http=settings.IMAGE_PLAIN_HTTP_REGISTRIES,
            ca_file=settings.IMAGE_CERTIFICATES or None,
        )
        return cls(Spool(settings.IMAGE_SPOOL), reach, ways=Ways.by_settings())

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
