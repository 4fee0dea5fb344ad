"""Lab time: runs at a chosen rate of real time, stands still, or is moved by hand.

Everything in the lab that takes or measures time asks this clock: durations of operations,
timeouts, heartbeats, record timestamps. `rate=1` is real time, `rate=60` makes a minute a second,
`rate=0` stands still until `advance` moves it. Whatever the rate, timers fire in the order of
their due times, and each sees the clock at its own due time when it is moved by hand.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime


class Clock:
    """Seconds of lab time since the epoch, with timers. Belongs to one event loop."""

    def __init__(self, rate: float = 1.0, start: float | None = None) -> None:
        self._rate = rate
        self._base = time.time() if start is None else start
        self._origin = time.monotonic()
        self._timers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._wakeup: asyncio.TimerHandle | None = None

    @property
    def rate(self) -> float:
        return self._rate

    def now(self) -> float:
        """Lab time, in seconds since the epoch."""
        return self._base + (time.monotonic() - self._origin) * self._rate

    def date(self) -> datetime:
        """Lab time as XAPI shows it: whole seconds, UTC."""
        return datetime.fromtimestamp(int(self.now()), UTC)

    def set_rate(self, rate: float) -> None:
        self._rebase(self.now())
        self._rate = rate
        self._arm()

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of lab time have passed."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), future))
        self._arm()
        await future

    async def advance(self, seconds: float) -> None:
        """Move time forward, firing each timer on the way at its own moment."""
        target = self.now() + seconds
        while True:
            await _settle()
            self._drop_cancelled()
            if not self._timers or self._timers[0][0] > target:
                break
            due, _, future = heapq.heappop(self._timers)
            self._rebase(max(due, self.now()))
            future.set_result(None)
        self._rebase(max(target, self.now()))
        self._arm()
        await _settle()

    def _rebase(self, now: float) -> None:
        self._base, self._origin = now, time.monotonic()

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].done():
            heapq.heappop(self._timers)

    def _arm(self) -> None:
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        self._drop_cancelled()
        if self._timers and self._rate > 0:
            delay = max(0.0, (self._timers[0][0] - self.now()) / self._rate)
            self._wakeup = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._wakeup = None
        now = self.now()
        while self._timers and (self._timers[0][2].done() or self._timers[0][0] <= now):
            future = heapq.heappop(self._timers)[2]
            if not future.done():
                future.set_result(None)
        self._arm()


async def _settle() -> None:
    """Let whatever is ready run until it waits again."""
    for _ in range(10):
        await asyncio.sleep(0)
