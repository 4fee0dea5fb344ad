"""The last lines that a container wrote, on Redis: bounded, for people to look at, and gone with Redis.

The relay (worker/relay.py) writes them, pages and REST read them. What a guest writes is hostile: whoever
shows it escapes it, and the relay has taken control characters out of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import redis
from django.conf import settings

from hosting.connections import redis_client
from hosting.errors import Unavailable

# Of one instance: half a MiB at most, however much it writes.
MOST_LINES = 500
LONGEST_LINE = 1000
KEPT = timedelta(days=7)
PATIENCE = 2.0
"""Seconds that who reads or writes lines waits for Redis."""


@dataclass(frozen=True, slots=True)
class Line:
    """`cursor` orders lines and names the place after which to go on reading.

    `at` is our time of keeping it. `stream` is "stdout", "stderr", "init", "relay" for our own notes, or
    "console" for what came without saying (the kernel's, or all of a guest that does not speak the console
    protocol); `written_at` is the guest's own time where it tells one, as true as the guest is.
    """

    cursor: str
    at: datetime
    text: str
    stream: str = "console"
    written_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A line that is to be kept. `milliseconds` since 1970 is the guest's time."""

    text: str
    stream: str = "console"
    milliseconds: int | None = None


def append_lines(instance: UUID, lines: Iterable[Written], mark: str | None = None) -> None:
    """Keep these, and forget the oldest. `mark` is kept with them: both or neither. Raises Unavailable."""
    key = _key(instance)
    try:
        pipeline = redis_client(settings.REDIS_URL, PATIENCE).pipeline(transaction=mark is not None)
        for line in lines:
            pipeline.xadd(key, _fields(line), maxlen=MOST_LINES, approximate=False)
        if mark is not None:
            pipeline.set(_mark_key(instance), mark, ex=KEPT)
        pipeline.expire(key, KEPT)
        pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("Output cannot be kept at the moment.") from error


def last_lines(instance: UUID, most: int = MOST_LINES) -> list[Line]:
    """The newest `most`, oldest first. None kept is an empty list. Raises Unavailable."""
    try:
        found: Any = redis_client(settings.REDIS_URL, PATIENCE).xrevrange(
            _key(instance), count=most
        )
    except redis.RedisError as error:
        raise Unavailable("Output cannot be read at the moment.") from error
    return [_line(*entry) for entry in reversed(found)]


def last_mark(instance: UUID) -> str | None:
    """The one kept last: how far who keeps the lines had read. Raises Unavailable."""
    try:
        found: Any = redis_client(settings.REDIS_URL, PATIENCE).get(_mark_key(instance))
    except redis.RedisError as error:
        raise Unavailable("Output cannot be read at the moment.") from error
    return found.decode() if found is not None else None


def forget_lines(instance: UUID) -> None:
    """Raises Unavailable."""
    try:
        redis_client(settings.REDIS_URL, PATIENCE).delete(_key(instance), _mark_key(instance))
    except redis.RedisError as error:
        raise Unavailable("Output cannot be removed at the moment.") from error


def _line(cursor: bytes, fields: dict[bytes, bytes]) -> Line:
    cursor_text = cursor.decode()
    milliseconds = int(cursor_text.partition("-")[0])
    at = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    written = fields.get(b"w")
    return Line(
        cursor_text,
        at,
        fields[b"t"].decode(errors="replace"),
        fields.get(b"s", b"console").decode(),
        datetime.fromtimestamp(int(written) / 1000, tz=UTC) if written is not None else None,
    )


def _fields(line: Written) -> dict[Any, Any]:
    fields: dict[Any, Any] = {"t": line.text[:LONGEST_LINE]}
    if line.stream != "console":
        fields["s"] = line.stream
    if line.milliseconds is not None:
        fields["w"] = line.milliseconds
    return fields


def _mark_key(instance: UUID) -> str:
    return f"bulkhead:output:{instance}:mark"


def _key(instance: UUID) -> str:
    return f"bulkhead:output:{instance}"
