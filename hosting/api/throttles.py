"""How often one caller may ask: so many requests in each minute of the clock."""

from time import time as now
from typing import TYPE_CHECKING

import redis
import structlog
from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from hosting.connections import redis_client

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module

log = structlog.get_logger(__name__)

_MINUTE = 60
PATIENCE = 1.0
"""Seconds that a request waits for Redis."""


class PerMinute(BaseThrottle):
    """Counted per token, else per person, else per address. Without Redis nobody is refused."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        key = f"bulkhead:requests:{_caller(request)}:{int(now()) // _MINUTE}"
        # Not by Django's cache: under ASGI that would make a connection for each request.
        pipeline = redis_client(settings.REDIS_URL, PATIENCE).pipeline(transaction=False)
        pipeline.incr(key)
        pipeline.expire(key, 2 * _MINUTE)
        try:
            made, _ = pipeline.execute()
        except redis.RedisError as error:
            log.warning("requests_not_counted", error=str(error))
            return True
        return bool(made <= settings.API_REQUESTS_PER_MINUTE)

    def wait(self) -> float:
        """Seconds until the next minute begins."""
        return _MINUTE - now() % _MINUTE


def _caller(request: Request) -> str:
    if request.auth is not None:
        return f"token:{request.auth.pk}"
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    return f"address:{request.META.get('REMOTE_ADDR')}"
