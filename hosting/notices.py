"""Small words on Redis that something changed, so that an open page looks again. They carry no news."""

from collections.abc import Collection

import redis
import structlog
from django.conf import settings

from hosting.connections import redis_client

log = structlog.get_logger(__name__)

PATIENCE = 1.0
"""Seconds."""


def publish(channels: Collection[str], said: str = "") -> None:
    """Say it on each of `channels`.

    Nothing depends on its being heard: a Redis that does not answer costs at most two seconds.
    """
    try:
        pipeline = redis_client(settings.REDIS_URL, PATIENCE).pipeline(transaction=False)
        for channel in channels:
            pipeline.publish(channel, said)
        pipeline.execute()
    except redis.RedisError as error:
        log.warning("notice_not_published", channels=len(channels), error=str(error))
