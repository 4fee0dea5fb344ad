"""Commands run inside a guest beside its own program, over its console. Pure, as the session is.

What is asked is repeated until the guest's state shows it, so a lost or garbled request costs time, never
the command: numbers, offsets and counts let the guest do each once.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from worker.relay.protocol import Frame, Plain, Reply, Status
from worker.relay.session import ASK_EVERY, Began, Gap, Heard, Inbound, Session

MOST_WAITING = 64 * 1024
"""Bytes of stdin that wait on our side."""
CHUNK = 1024


class ExecRefused(Exception):
    """The guest does not run it. `reason`: gone, full, too-long, or "failed ERRNO TEXT"."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The container does not run this command: {reason}.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Exit:
    """`how` it ended: by itself with `code`, by signal number `code`, or "lost" when its guest began anew or gave it up."""

    how: Literal["exit", "signal", "lost"]
    code: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. Empty `user` and `cwd` are the container's; `env` is added to its own."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    user: str = ""
    tty: bool = False
    rows: int = 0
    cols: int = 0

    def words(self) -> list[str | int]:
        flags = "t" if self.tty else "-"
        added = [f"{name}={value}" for name, value in self.env.items()]
        return [
            flags,
            self.rows,
            self.cols,
            self.user,
            self.cwd,
            len(self.argv),
            *self.argv,
            *added,
        ]


class Exec:
    """One command. Made by `Execs.open`."""

    def __init__(self, session: Session, number: int, command: Command) -> None:
        self.number, self.command = number, command
        self.exit: Exit | None = None
        self.refused: ExecRefused | None = None
        self.is_running = False
        self._session = session
        self._output: deque[tuple[str, bytes, int]] = deque()
        self._waiting = bytearray()
        self._taken, self._room = 0, 0
        self._ends_input = self._input_is_at_end = self._is_unwanted = False
        self._signals: list[int] = []
        self._signalled = 0
        self._size: tuple[int, int] | None = None
        self._asked_at: float | None = None
        self._asked: object = None

    @property
    def is_over(self) -> bool:
        return self.exit is not None or self.refused is not None

    def read(self) -> list[tuple[str, bytes]]:
        """What it wrote since: ("o" or "e", bytes). Until it is read, the command waits. Raises ExecRefused."""
        if self.refused is not None:
            raise self.refused
        output = [(kind, data) for kind, data, _ in self._output]
        if self._output:
            self._session.keep(self.number, self._output[-1][2])
            self._output.clear()
        return output

    def write(self, data: bytes) -> int:
        """Bytes for its stdin; answers how many were taken."""
        room = 0 if self._ends_input else MOST_WAITING - len(self._waiting)
        self._waiting += data[:room]
        return min(room, len(data))

    def end_input(self) -> None:
        """After what was written, its stdin ends."""
        self._ends_input = True

    def resize(self, rows: int, cols: int) -> None:
        self._size = rows, cols

    def signal(self, number: int) -> None:
        self._signals.append(number)

    def close(self) -> None:
        """It is to end: nobody wants it any more."""
        self._is_unwanted = True

    def _hear(self, event: Heard) -> None:
        if isinstance(event, Frame) and event.kind == "x":
            found = re.fullmatch(rb"(exit|signal) (\d{1,3})", event.data)
            how: Literal["exit", "signal"] = "signal" if found and found[1] == b"signal" else "exit"
            self.exit = Exit(how, int(found[2])) if found else Exit("lost", 0)
            if not self._output:
                self._session.keep(self.number, event.seq)
        elif isinstance(event, Frame):
            ending = b"" if event.goes_on else b"\n"
            self._output.append((event.kind, event.data + ending, event.seq))
        elif isinstance(event, Reply):
            if self.is_running:
                self.exit = self.exit or Exit("lost", 0)
            elif (
                event.about == "exec"
            ):  # what else was asked of a command that is not there is no news
                self.refused = ExecRefused(event.reason)
        elif isinstance(event, Status):
            self._note(event)

    def _note(self, status: Status) -> None:
        self.is_running = True
        if status.taken > self._taken:
            del self._waiting[: status.taken - self._taken]
            self._taken = status.taken
        self._room, self._input_is_at_end = status.room, status.is_at_end
        self._signalled = status.signals

    def _settle(self, now: float) -> None:
        wanted = self._wanted()
        is_asked = wanted == self._asked and self._asked_at is not None
        # A size is never confirmed: it is told when it changes, and to each new console.
        is_only_size = all(words[0] == "size" for words in wanted)
        if is_asked and (is_only_size or now < (self._asked_at or 0) + ASK_EVERY):
            return
        self._asked, self._asked_at = wanted, now
        for words in wanted:
            self._session.send(*words)

    def _wanted(self) -> list[list[str | bytes | int]]:
        """What the guest's state does not show yet."""
        number = self.number
        if self.is_over:
            return []
        if not self.is_running:
            return [["exec", number, *self.command.words()]]
        wanted: list[list[str | bytes | int]] = []
        if self._waiting:
            # Without room an empty piece asks how things are.
            piece = bytes(self._waiting[: min(CHUNK, self._room)])
            wanted.append(["stdin", number, self._taken, piece])
        elif self._ends_input and not self._input_is_at_end:
            wanted.append(["eof", number, self._taken])
        if self._signalled < len(self._signals):
            wanted.append(["signal", number, self._signalled + 1, self._signals[self._signalled]])
        if self._size is not None:
            wanted.append(["size", number, *self._size])
        if self._is_unwanted:
            wanted.append(["close", number])
        return wanted


class Execs:
    """All of one guest's."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: dict[int, Exec] = {}

    def open(self, command: Command) -> Exec:
        """Ask for it; whether it runs shows later. Raises ExecRefused, ValueError for what can be no command."""
        texts = [*command.argv, *command.env, *command.env.values(), command.cwd, command.user]
        if not command.argv or not command.argv[0] or any("\0" in text for text in texts):
            raise ValueError("A command needs a name, and no NUL.")
        if any(not re.fullmatch("[^=]+", name) for name in command.env):
            raise ValueError("A variable's name is not empty and has no '='.")
        if not self._session.is_greeted:
            raise ExecRefused("no-console")
        number = self._session.next_exec
        one = Exec(self._session, number, command)
        self._session.check(["exec", number, *command.words()])
        self._session.next_exec += 1
        self._session.channels[number] = Inbound()
        self._running[number] = one
        return one

    def hear(self, event: Heard) -> bool:
        """Was it about one of ours?"""
        if isinstance(event, Began):
            for one in list(self._running.values()):
                if event.is_new:
                    one.exit = one.exit or Exit("lost", 0)
                    self._running.pop(one.number)
                else:
                    one._asked_at = None  # what was asked last may be lost
            return False
        if isinstance(event, Plain):
            return False
        found = self._running.get(event.channel)
        if found is not None and not isinstance(event, Gap):
            found._hear(event)
        return event.channel != 0

    def settle(self, now: float) -> None:
        """Ask for what is not so yet. Call it before `Session.outgoing`."""
        if not self._session.is_greeted:
            return
        for one in list(self._running.values()):
            one._settle(now)
            if one.is_over and not one._output:
                self._finish(one)

    def _finish(self, one: Exec) -> None:
        inbound = self._session.channels.get(one.number)
        if inbound is not None:
            # Its last word is acknowledged at once; were that lost, the guest would tell it again, and be told.
            self._session.send("ack", one.number, inbound.next - 1, inbound.next)
        self._session.forget(one.number)
        self._running.pop(one.number, None)
