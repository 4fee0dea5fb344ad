"""One relay reads a pool's consoles at a time, by a lease on Redis.

On Redis and not in the Pool row, because that is where the lines go: whoever cannot reach the lease cannot
write a line either, and a lease that is lost with Redis has nothing left to protect. The worst that two
leaders could do is to keep lines twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import redis

LEASE = timedelta(seconds=10)

_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_GIVE_UP = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Lead:
    """Of one pool, for one relay."""

    def __init__(
        self, pool: UUID, client: redis.Redis, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._clock = clock
        self._key = f"bulkhead:relay:{pool}"
        self._token = str(uuid4())
        self._until = clock()

    @property
    def is_held(self) -> bool:
        return self._clock() < self._until

    def hold(self) -> bool:
        """Take the lead, or keep it; False while another relay has it. Raises RedisError."""
        asked = (
            self._clock()
        )  # our count begins before Redis's does: we never lead for longer than it says
        milliseconds = int(LEASE / timedelta(milliseconds=1))
        held = bool(self._client.eval(_HOLD, 1, self._key, self._token, milliseconds))
        self._until = asked + LEASE.total_seconds() if held else asked
        return held

    def give_up(self) -> None:
        """Let another one lead at once. Raises RedisError."""
        self._until = self._clock()
        self._client.eval(_GIVE_UP, 1, self._key, self._token)
