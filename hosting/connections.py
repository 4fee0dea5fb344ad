"""How each kind of process keeps its connections to PostgreSQL, and to Redis; what runs but once makes them anew.

Making one costs as much as answering a small request.
"""

from functools import lru_cache

import redis
from django.conf import settings
from django.db import connections

# Seconds, in a process that does one thing at a time.
_KEPT = 600
# Seconds that a request waits for a connection when all are in use.
_PATIENCE = 10


def keep_connections_in_a_pool() -> None:
    """For the web: its threads come and go with its requests, and share what connections there are."""
    if settings.DATABASE_POOL_SIZE == 0:
        return
    database = connections.settings["default"]
    database["CONN_MAX_AGE"] = 0  # given back at each request's end
    database["OPTIONS"]["pool"] = {
        "min_size": 0,
        "max_size": settings.DATABASE_POOL_SIZE,
        "timeout": _PATIENCE,
    }


def keep_one_connection() -> None:
    """For a process that does one thing at a time; a pool that was meant for the web is not for it."""
    database = connections.settings["default"]
    database["OPTIONS"].pop("pool", None)
    database["CONN_MAX_AGE"] = database["CONN_MAX_AGE"] or _KEPT


@lru_cache(maxsize=8)
def redis_client(url: str, patience: float) -> redis.Redis:
    """The process's own for that server, which gives up after `patience` seconds. Its threads share it."""
    return redis.Redis.from_url(url, socket_timeout=patience, socket_connect_timeout=patience)
