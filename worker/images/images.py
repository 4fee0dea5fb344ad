"""What workflows hold: images by name, and root disks of them."""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Self

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from worker.images import builders
from worker.images.cache import BlobCache
from worker.images.gates import Gates
from worker.images.mirrors import Mirrors
from worker.images.proxy import Proxy
from worker.images.reach import Reach
from worker.images.records import GIB, MIB, Credentials, Limits, Platform, Resolved, RootDisk
from worker.images.reference import Reference
from worker.images.registry import Repository, Ways
from worker.images.spool import Spool


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
        return cls(Spool(settings.IMAGE_SPOOL), reach, ways=ways_by_settings())

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


def ways_by_settings() -> Ways:
    """Mirrors, proxy, limits and cache. Raises ImproperlyConfigured."""
    cache = None
    if settings.IMAGE_CACHE:
        cache = BlobCache(
            Path(settings.IMAGE_CACHE),
            settings.IMAGE_CACHE_GIB * GIB,
            timedelta(days=settings.IMAGE_CACHE_DAYS),
        )
    gates = Gates(
        Path(settings.IMAGE_SPOOL) / f".bulkhead-gates-{os.geteuid()}",
        settings.IMAGE_REQUESTS_PER_REGISTRY,
        settings.IMAGE_MIB_PER_SECOND * MIB,
    )
    return Ways(mirrors_by_settings(), proxy_by_settings(), gates, cache)


def mirrors_by_settings() -> Mirrors:
    """Raises ImproperlyConfigured."""
    try:
        return Mirrors.parse(settings.IMAGE_MIRRORS, settings.IMAGE_MIRRORS_STAND_IN)
    except ValueError as error:
        raise ImproperlyConfigured(f"IMAGE_MIRRORS: {error}") from error


def proxy_by_settings() -> Proxy | None:
    """Raises ImproperlyConfigured."""
    if not settings.IMAGE_PROXY:
        return None
    try:
        return Proxy.parse(
            settings.IMAGE_PROXY,
            no_proxy=settings.IMAGE_NO_PROXY,
            resolves=settings.IMAGE_PROXY_RESOLVES,
        )
    except ValueError as error:
        raise ImproperlyConfigured(f"IMAGE_PROXY, IMAGE_NO_PROXY: {error}") from None
