"""One instance, as the relay has it: its console, and what of it is still to be kept."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hosting.compute.output import MOST_LINES, Written
from worker.hypervisor.port import ByteStream
from worker.relay.framed import Framed
from worker.relay.protocol import LONGEST_LINE, without_echoes
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

# Of what we have to say, while the guest does not listen.
MOST_UNSENT = 64 * 1024

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

    def lines(self) -> int:
        """How many lines of the console protocol are left, however long and however empty they are."""
        return int(self._left) // (LONGEST_LINE + LINE_BYTES)


@dataclass(frozen=True, slots=True)
class Opened:
    """A console just opened: on which host, and what of its VM's present start was kept before.

    `mark` is how far a guest that speaks the console protocol had been read.
    """

    stream: ByteStream
    host: UUID | None
    kept: Sequence[str]
    mark: str | None = None


class Reading:
    """A console that is read. Each call answers lines that are to be kept."""

    def __init__(self, opened: Opened, framed: Framed, now: float) -> None:
        self._framed, self._out = framed, b""
        framed.session.connected(now)
        self.stream, self.host = opened.stream, opened.host
        self.began_at = now
        self._kept = opened.kept
        self._opening: bytearray | None = bytearray()
        self._opened_with = 0
        self._lines = Lines()
        self._allowance = Allowance(now)
        self._left_out, self._told_at = 0, now

    def take(self, data: bytes, now: float) -> list[Written]:
        """It showed `data`."""
        if self._opening is None and not self._allowance.take(data, now):
            cut = [] if self._left_out else _heard(self._lines.unfinished())
            self._left_out += len(data)
            return _console(cut)
        lines, plain = self._framed.feed(data, now)
        if self._opening is None:
            return lines + _console(_heard(self._lines.feed(plain, now)))
        self._opening += plain
        self._opened_with += len(data)
        return lines + (self._end_opening(now) if self._opened_with >= OPENING_BYTES else [])

    def settle(self, now: float) -> list[Written]:
        """What only time makes a line of."""
        if self._opening is not None:
            return self._end_opening(now) if now - self.began_at >= OPENING_SECONDS else []
        lines = _console(_heard(self._lines.overdue(now)))
        if self._left_out and now - self._told_at >= TELL_EVERY:
            lines += self._what_was_left_out(now)
        return lines

    def end(self, now: float) -> list[Written]:
        """It is closed."""
        self.stream.close()
        if self._opening is not None:
            lines = self._end_opening(now)
        else:
            lines = _console(_heard(self._lines.unfinished()))
        return lines + self._what_was_left_out(now)

    def talk(self, now: float) -> None:
        """All that was read is kept: acknowledge it, and ask for as much as it may write. Raises OSError.

        Acknowledging late is what slows a chatty guest down: it stops at its own pipe, and loses nothing.
        """
        self._allowance.take(b"", now)
        self._framed.keep(self._allowance.lines())
        self._out += self._framed.session.outgoing(now)
        if len(self._out) > MOST_UNSENT:
            raise OSError("the guest does not take what it asked for")
        if self._out:
            self._out = self._out[self.stream.send_nowait(self._out) :]

    def _end_opening(self, now: float) -> list[Written]:
        assert self._opening is not None
        lines = _heard(self._lines.feed(bytes(self._opening), now) + self._lines.unfinished())
        self._opening = None
        return _console(unseen(lines, self._kept))

    def _what_was_left_out(self, now: float) -> list[Written]:
        count, self._left_out, self._told_at = self._left_out, 0, now
        if not count or self._framed.speaks:
            return []  # one who speaks the protocol is asked for it again
        text = f"[{count} bytes left out: more than {BYTES_PER_SECOND // 1024} KiB a second]"
        return [Written(text, "relay")]


def _heard(texts: Sequence[str]) -> list[str]:
    """Without what we said ourselves: a tty echoes until the guest's init has it."""
    return [heard for text in texts if (heard := without_echoes(text)) is not None]


def _console(texts: Sequence[str]) -> list[Written]:
    return [Written(text) for text in texts]


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
    pending: deque[Written] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    reading: Reading | None = None
    framed: Framed | None = None
    kept_mark: str | None = None
    in_doubt: tuple[str, int] | None = None
    """Mark and number of the lines whose keeping failed: they may be kept all the same."""
    is_being_opened: bool = False
    failures: int = 0

    def read_from(self, opened: Opened, now: float) -> None:
        """Its console is open. How far it was read is known from the last one, or from who read it before."""
        if self.framed is None:
            self.framed, self.kept_mark = Framed(opened.mark), opened.mark
        self.reading = Reading(opened, self.framed, now)

    @property
    def mark(self) -> str | None:
        """How far it was read, if it speaks the console protocol."""
        return self.framed.mark() if self.framed is not None else None

    def take(self, data: bytes, now: float) -> None:
        assert self.reading is not None
        self.pending += self.reading.take(data, now)

    def settle(self, now: float) -> None:
        if self.reading is not None:
            self.pending += self.reading.settle(now)
        if self.framed is not None:
            self.pending += self.framed.overdue(now)

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
