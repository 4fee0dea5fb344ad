"""Small words on Redis that something changed, so that an open page looks again. They carry no news."""

from collections.abc import Collection
from functools import lru_cache

import redis
import structlog
from django.conf import settings

log = structlog.get_logger(__name__)


def publish(channels: Collection[str], said: str = "") -> None:
    """Say it on each of `channels`.

    Nothing depends on its being heard: a Redis that does not answer costs at most two seconds.
    """
    try:
        pipeline = _client(settings.REDIS_URL).pipeline(transaction=False)
        for channel in channels:
            pipeline.publish(channel, said)
        pipeline.execute()
    except redis.RedisError as error:
        log.warning("notice_not_published", channels=len(channels), error=str(error))


@lru_cache(maxsize=2)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
