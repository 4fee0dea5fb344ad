"""Since when lines are of a VM's present start, on Redis beside the lines themselves.

A guest that says the same after each start says something new each time: only what was kept since its
present start can be what its console shows again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import redis
from django.conf import settings

from hosting.compute.output import KEPT, PATIENCE, last_lines
from hosting.connections import redis_client
from hosting.errors import Unavailable


def lines_since_start(instance: UUID, started_at: datetime | None) -> list[str]:
    """What was kept since the VM's start at `started_at`, which is noted if it is new. Raises Unavailable."""
    lines = last_lines(instance)
    start, key = str(started_at), f"bulkhead:output:{instance}:start"
    client = redis_client(settings.REDIS_URL, PATIENCE)
    try:
        found: Any = client.get(key)
        noted, _, before = (found or b"").decode().rpartition(" ")
        if noted != start:
            before = lines[-1].cursor if lines else "0-0"
        client.set(key, f"{start} {before}", ex=KEPT)
    except redis.RedisError as error:
        raise Unavailable("Output cannot be read at the moment.") from error
    return [
        line.text
        for line in lines
        if line.stream == "console" and _order(line.cursor) > _order(before)
    ]


def _order(cursor: str) -> tuple[int, int]:
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds), int(number)
