"""Small words on Redis that something changed, so that a page looks again. They carry no news."""

import json
from collections.abc import Collection
from functools import lru_cache
from uuid import UUID

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)


def channel_of(pool: UUID) -> str:
    return f"bulkhead:pool:{pool}"


def publish_change(pool: UUID, kinds: Collection[str]) -> None:
    """Say that rows of these kinds ("host", "vm", "pool", …) changed: {"pool": uuid, "kinds": […]}.

    Nothing depends on its being heard: a Redis that does not answer costs at most two seconds.
    """
    said = json.dumps({"pool": str(pool), "kinds": sorted(kinds)})
    try:
        _client(settings.REDIS_URL).publish(channel_of(pool), said)
    except redis.RedisError as error:
        log.warning("notice_not_published", pool=str(pool), error=str(error))


@lru_cache(maxsize=2)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
