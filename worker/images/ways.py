"""How images come to this machine: mirrors, proxy, limits and cache, as the operator set them."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from worker.images.cache import BlobCache
from worker.images.gates import Gates
from worker.images.mirrors import Mirrors
from worker.images.proxy import Proxy
from worker.images.records import GIB, MIB


@dataclass(frozen=True)
class Ways:
    """Without any: straight from the registry."""

    mirrors: Mirrors = field(default_factory=Mirrors)
    proxy: Proxy | None = None
    gates: Gates = field(default_factory=Gates)
    cache: BlobCache | None = None
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)

    @classmethod
    def by_settings(cls) -> Self:
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
        return cls(mirrors_by_settings(), proxy_by_settings(), gates, cache)


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
