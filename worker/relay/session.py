"""A conversation with a guest that speaks the console protocol: each of its lines once, in order. Pure.

The caller gives bytes and the time and gets events; what is to be sent gathers in `outgoing`. Nothing is
acknowledged before `keep` says that it is kept, so that whoever comes next goes on exactly there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from worker.relay.protocol import (
    Decoder,
    Event,
    Frame,
    Hello,
    Plain,
    Reply,
    Status,
    Stranger,
    request,
)

# Seconds: between two requests for the same thing, and between two signs that we are still there.
ASK_EVERY = 1.0
STAY_EVERY = 5.0
# Greetings grow rarer: a guest whose kernel still boots echoes each, and says itself when it is there.
LONGEST_ASK = 16.0
CREDIT = 128
"""Lines that a channel may be ahead of us, when nothing says otherwise."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines of a channel that no reader can have any more, since the guest had to let them go."""

    channel: int
    lines: int


@dataclass(frozen=True, slots=True)
class Began:
    """It speaks the protocol. `is_new`: another boot than the one we knew, all channels begin again."""

    boot: str
    is_new: bool


Heard: TypeAlias = Frame | Gap | Began | Plain | Reply | Status


@dataclass(slots=True)
class Inbound:
    """One channel's order."""

    next: int = 1
    kept: int = 0
    limit: int = 0
    """The last line that we want to have."""
    told: tuple[int, int] = (-1, -1)
    """What was acknowledged last: through which line, and how far the guest may go."""
    again_at: float | None = None
    """When to ask for what is missing, if something is."""

    def __post_init__(self) -> None:
        self.limit = self.limit or self.kept + CREDIT

    def take(self, frame: Frame, now: float) -> bool:
        """Is it the next one?"""
        if frame.seq == self.next:
            self.next += 1
            self.again_at = None
            return True
        if frame.seq > self.next and self.again_at is None:
            self.again_at = now
        return False


@dataclass(slots=True)
class Session:
    """One guest's, over all its consoles. `next` is that of the container's channel, in boot `boot`."""

    boot: str | None = None
    next: int = 1
    new_nonce: Callable[[], str] = lambda: secrets.token_hex(4)
    channels: dict[int, Inbound] = field(default_factory=dict)
    next_exec: int = 1
    is_greeted: bool = False
    """Did it answer us on this console?"""
    _decoder: Decoder = field(default_factory=Decoder)
    _out: bytearray = field(default_factory=bytearray)
    _nonce: str = ""
    _ask_at: float | None = None
    _ask_pause: float = ASK_EVERY
    _stay_at: float = 0.0

    def __post_init__(self) -> None:
        self._decoder.boot = self.boot
        self.channels[0] = Inbound(self.next, self.next - 1)

    @property
    def speaks(self) -> bool:
        """Does the guest speak the protocol, as far as we know?"""
        return self.boot is not None

    def connected(self, now: float) -> None:
        """A console was opened. A guest that was never heard to speak the protocol is not spoken to."""
        self._decoder = Decoder(self.boot)
        self._out.clear()
        self.is_greeted = False
        self._ask_at = None
        if self.speaks:
            self._ask(now)

    def feed(self, data: bytes, now: float) -> list[Heard]:
        """The guest wrote `data`."""
        return [heard for event in self._decoder.feed(data) for heard in self._hear(event, now)]

    def keep(self, channel: int, through: int, credit: int = CREDIT) -> None:
        """All lines through this one are kept; the guest may be `credit` lines ahead."""
        inbound = self.channels.get(channel)
        if inbound is not None:
            inbound.kept = max(inbound.kept, min(through, inbound.next - 1))
            inbound.limit = max(inbound.limit, inbound.kept + credit)

    def send(self, *words: str | bytes | int) -> None:
        """Raises ValueError when it is too long."""
        self._out += request(self.boot, *words)

    def check(self, words: Sequence[str | bytes | int]) -> None:
        """Raises ValueError when it is too long to be sent."""
        request(self.boot, *words)

    def outgoing(self, now: float) -> bytes:
        """What is to be sent now; it counts as sent."""
        if self._ask_at is not None and now >= self._ask_at:
            self._out += request(None, "hello", 1, self._nonce)
            self._ask_at = now + self._ask_pause
            self._ask_pause = min(2 * self._ask_pause, LONGEST_ASK)
        if self.is_greeted:
            for number, inbound in self.channels.items():
                self._settle(number, inbound, now)
        out, self._out = bytes(self._out), bytearray()
        if out:
            self._stay_at = now + STAY_EVERY
        return out

    def forget(self, channel: int) -> None:
        self.channels.pop(channel, None)

    def _ask(self, now: float) -> None:
        self._nonce, self._ask_at, self._ask_pause = self.new_nonce(), now, ASK_EVERY

    def _ask_soon(self, now: float) -> None:
        """Somebody is there."""
        if self._ask_at is None:
            self._ask(now)
        else:
            self._ask_at, self._ask_pause = min(self._ask_at, now + ASK_EVERY), ASK_EVERY

    def _settle(self, number: int, inbound: Inbound, now: float) -> None:
        told = (inbound.kept, inbound.limit)
        is_missing = inbound.again_at is not None and now >= inbound.again_at
        if told != inbound.told or is_missing or (number == 0 and now >= self._stay_at):
            inbound.told = told
            self.send("ack", number, *told)
        if is_missing:
            inbound.again_at = now + ASK_EVERY
            self.send("again", number, inbound.next, inbound.limit)

    def _hear(self, event: Event, now: float) -> Iterator[Heard]:
        if isinstance(event, Frame):
            inbound = self.channels.get(event.channel)
            if inbound is not None and inbound.take(event, now):
                yield event
            elif inbound is None and self.is_greeted and event.kind == "x":
                self.send(
                    "ack", event.channel, event.seq, event.seq
                )  # it did not hear that we have it
        elif isinstance(event, Status):
            yield from self._compare(event, now)
        elif isinstance(event, Hello):
            yield from self._meet(event, now)
        elif isinstance(event, Stranger):
            if not self.is_greeted:
                self._ask_soon(now)
        else:
            yield event

    def _meet(self, hello: Hello, now: float) -> Iterator[Heard]:
        """Only an answer to ourselves counts: any other may be of the past, shown again."""
        if not self._nonce or hello.nonce != self._nonce:
            if hello.boot != self.boot or not self.is_greeted:
                self._ask_soon(now)
            return
        is_new = hello.boot != self.boot
        if is_new:
            self.boot = self._decoder.boot = hello.boot
            self.channels = {0: Inbound()}
            self.next_exec = 1
        self.next_exec = max(hello.next_exec, self.next_exec)
        self.is_greeted, self._ask_at, self._nonce = True, None, ""
        for inbound in self.channels.values():
            # What we had asked for before, it may not have heard, and a limit does not outlive a console.
            inbound.again_at, inbound.told = now, (-1, -1)
        yield Began(hello.boot, is_new)

    def _compare(self, status: Status, now: float) -> Iterator[Heard]:
        inbound = self.channels.get(status.channel)
        if inbound is None:
            if self.is_greeted:  # of a reader who is no more
                self.send("close", status.channel)
                self.send("ack", status.channel, status.next - 1, status.next)
            return
        if status.first > inbound.next:
            yield Gap(status.channel, status.first - inbound.next)
            inbound.next, inbound.again_at = status.first, now
        yield status
