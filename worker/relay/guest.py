"""One instance, as the relay has it: its console, and what of it is still to be kept."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hosting.compute.output import MOST_LINES
from worker.hypervisor.port import ByteStream
from worker.relay.replay import unseen
from worker.relay.text import Lines

# What a guest may write: bytes a second, and at once after it was silent. A line costs more than its bytes,
# since the keeping of each costs us the same.
BYTES_PER_SECOND = 16 * 1024
BURST_BYTES = 128 * 1024
LINE_BYTES = 128

# What a console opens with: all that comes in so many seconds, or so many bytes.
OPENING_SECONDS = 0.5
OPENING_BYTES = 96 * 1024

# Seconds.
STEADY = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
TELL_EVERY = 1.0


class Allowance:
    """What one guest may still write: a bucket that fills by the second."""

    def __init__(self, now: float) -> None:
        self._left = float(BURST_BYTES)
        self._at = now

    def take(self, data: bytes, now: float) -> bool:
        """False, and nothing taken, when `data` is more than is left."""
        self._left = min(BURST_BYTES, self._left + (now - self._at) * BYTES_PER_SECOND)
        self._at = now
        cost = len(data) + LINE_BYTES * data.count(b"\n")
        if cost > self._left:
            return False
        self._left -= cost
        return True


@dataclass(frozen=True, slots=True)
class Opened:
    """A console just opened: on which host, and what of its VM's present start was kept before."""

    stream: ByteStream
    host: UUID | None
    kept: Sequence[str]


class Reading:
    """A console that is read. Each call answers lines that are to be kept."""

    def __init__(self, opened: Opened, now: float) -> None:
        self.stream, self.host = opened.stream, opened.host
        self.began_at = now
        self._kept = opened.kept
        self._opening: bytearray | None = bytearray()
        self._lines = Lines()
        self._allowance = Allowance(now)
        self._left_out, self._told_at = 0, now

    def take(self, data: bytes, now: float) -> list[str]:
        """It showed `data`."""
        if self._opening is not None:
            self._opening += data
            return self._end_opening(now) if len(self._opening) >= OPENING_BYTES else []
        if self._allowance.take(data, now):
            return self._lines.feed(data, now)
        cut = [] if self._left_out else self._lines.unfinished()
        self._left_out += len(data)
        return cut

    def settle(self, now: float) -> list[str]:
        """What only time makes a line of."""
        if self._opening is not None:
            return self._end_opening(now) if now - self.began_at >= OPENING_SECONDS else []
        lines = self._lines.overdue(now)
        if self._left_out and now - self._told_at >= TELL_EVERY:
            lines.append(self._what_was_left_out(now))
        return lines

    def end(self, now: float) -> list[str]:
        """It is closed."""
        self.stream.close()
        lines = self._end_opening(now) if self._opening is not None else self._lines.unfinished()
        if self._left_out:
            lines.append(self._what_was_left_out(now))
        return lines

    def _end_opening(self, now: float) -> list[str]:
        assert self._opening is not None
        lines = self._lines.feed(bytes(self._opening), now) + self._lines.unfinished()
        self._opening = None
        return unseen(lines, self._kept)

    def _what_was_left_out(self, now: float) -> str:
        count, self._left_out, self._told_at = self._left_out, 0, now
        return f"[{count} bytes left out: more than {BYTES_PER_SECOND // 1024} KiB a second]"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What the mirror says of a running VM: a change of it is worth another look."""

    host: UUID | None
    started_at: datetime | None


@dataclass(eq=False, slots=True)
class Guest:
    """A running instance: its console while that is read, else when it is to be opened (`due`)."""

    vm: UUID
    instance: UUID
    whereabouts: Whereabouts
    due: float
    pending: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    reading: Reading | None = None
    is_being_opened: bool = False
    failures: int = 0

    def take(self, data: bytes, now: float) -> None:
        assert self.reading is not None
        self.pending += self.reading.take(data, now)

    def settle(self, now: float) -> None:
        if self.reading is not None:
            self.pending += self.reading.settle(now)

    def end(self, now: float) -> None:
        """Its console is no longer read: it is opened again after a pause that grows if this goes on."""
        assert self.reading is not None
        self.pending += self.reading.end(now)
        if now - self.reading.began_at >= STEADY:
            self.failures = 0
        self.reading = None
        self.postpone(now)

    def postpone(self, now: float) -> None:
        self.failures += 1
        longest = min(FIRST_PAUSE * 2 ** min(self.failures - 1, 10), LONGEST_PAUSE)
        self.due = now + longest * random.uniform(0.5, 1)

    def hasten(self, now: float) -> None:
        """Something about it changed: what failed before may work now."""
        self.failures, self.due = 0, now
