"""The last lines that a container wrote, on Redis: bounded, for people to look at, and gone with Redis.

The relay (worker/relay.py) writes them, pages and REST read them. What a guest writes is hostile: whoever
shows it escapes it, and the relay has taken control characters out of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings

from hosting.errors import Unavailable

# Of one instance: half a MiB at most, however much it writes.
MOST_LINES = 500
LONGEST_LINE = 1000
KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Line:
    """`cursor` orders lines and names the place after which to go on reading."""

    cursor: str
    at: datetime
    text: str


def append_lines(instance: UUID, lines: Iterable[str]) -> None:
    """Keep these, and forget the oldest. Raises Unavailable."""
    key = _key(instance)
    try:
        pipeline = _client(settings.REDIS_URL).pipeline(transaction=False)
        for line in lines:
            pipeline.xadd(key, {"t": line[:LONGEST_LINE]}, maxlen=MOST_LINES, approximate=False)
        pipeline.expire(key, KEPT)
        pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("Output cannot be kept at the moment.") from error


def last_lines(instance: UUID, most: int = MOST_LINES) -> list[Line]:
    """The newest `most`, oldest first. None kept is an empty list. Raises Unavailable."""
    try:
        found: Any = _client(settings.REDIS_URL).xrevrange(_key(instance), count=most)
    except redis.RedisError as error:
        raise Unavailable("Output cannot be read at the moment.") from error
    return [_line(*entry) for entry in reversed(found)]


def forget_lines(instance: UUID) -> None:
    """Raises Unavailable."""
    try:
        _client(settings.REDIS_URL).delete(_key(instance))
    except redis.RedisError as error:
        raise Unavailable("Output cannot be removed at the moment.") from error


def _line(cursor: bytes, fields: dict[bytes, bytes]) -> Line:
    cursor_text = cursor.decode()
    milliseconds = int(cursor_text.partition("-")[0])
    at = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return Line(cursor_text, at, fields[b"t"].decode(errors="replace"))


def _key(instance: UUID) -> str:
    return f"bulkhead:output:{instance}"


@lru_cache(maxsize=2)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
