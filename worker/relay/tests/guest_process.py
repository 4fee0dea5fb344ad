"""The guest's half of the console, compiled as a process with the compiler's checks, on a tty of its own."""

from __future__ import annotations

import os
import random
import selectors
import shutil
import subprocess
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from worker.relay.execs import Execs
from worker.relay.protocol import Frame, Plain
from worker.relay.session import Began, Gap, Heard, Session

SOURCES = Path(__file__).parents[3] / "deploy" / "guest"
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
CHECKED = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
PARTS = ("frame", "request", "channel", "console", "sources", "execs", "asks")
PATIENCE = 30.0

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")


def compile_guest(target: Path, *sources: str, compiler: Sequence[str] = ("gcc", *CHECKED)) -> Path:
    files = [SOURCES / f"{part}.c" for part in PARTS] + [SOURCES / "tests" / one for one in sources]
    command = [*compiler, *STRICT, *map(str, files), "-o", str(target), "-lutil"]
    subprocess.run(command, check=True, timeout=120)
    return target


@lru_cache(maxsize=1)
def program() -> Path:
    return compile_guest(Path(mkdtemp(prefix="console-")) / "console_process", "console_process.c")


class Wire:
    """A guest's console as a toolstack shows it: one reader at a time, who may see the past again."""

    def __init__(self, argv: Sequence[str], boot: int = 0xB0) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        command = [str(program()), str(slave), f"{boot:x}", *argv]
        self.process = subprocess.Popen(command, pass_fds=[slave])
        os.close(slave)
        self.past = bytearray()

    def read(self, size: int = 4096) -> bytes:
        try:
            data = os.read(self.master, size)
        except (BlockingIOError, OSError):
            return b""
        self.past += data
        del self.past[:-4096]
        return data

    def write(self, data: bytes) -> None:
        with suppress(BlockingIOError, OSError):
            while data:
                data = data[os.write(self.master, data) :]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=PATIENCE)
        os.close(self.master)


class Reader:
    """Reads a wire as the relay does, in the tests' own time."""

    def __init__(self, wire: Wire, session: Session | None = None) -> None:
        self.wire, self.session = wire, session or Session()
        self.execs = Execs(self.session)
        self.heard: list[Heard] = []
        self.keeps = True
        self.credit = 128
        self.session.connected(time.monotonic())
        self._selector = selectors.DefaultSelector()
        self._selector.register(wire.master, selectors.EVENT_READ)

    def turn(self, wait: float = 0.02) -> None:
        self._selector.select(wait)
        self.take(self.wire.read())

    def take(self, data: bytes) -> None:
        now = time.monotonic()
        for event in self.session.feed(data, now):
            if not self.execs.hear(event):
                self.heard.append(event)
        if self.keeps:
            self.session.keep(0, self.session.channels[0].next - 1, self.credit)
        self.execs.settle(now)
        self.wire.write(self.session.outgoing(now))

    def until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < limit, f"waited too long; heard {self.heard[-5:]}"
            self.turn()

    def text(self, kinds: str = "oe") -> bytes:
        return b"".join(
            event.data + (b"" if event.goes_on else b"\n")
            for event in self.heard
            if isinstance(event, Frame) and event.kind in kinds
        )

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.heard if isinstance(event, Gap)]

    @property
    def plain(self) -> bytes:
        return b"".join(event.data for event in self.heard if isinstance(event, Plain))

    @property
    def has_begun(self) -> bool:
        return any(isinstance(event, Began) for event in self.heard)


@contextmanager
def a_guest(*argv: str) -> Iterator[Wire]:
    wire = Wire(argv)
    try:
        yield wire
    finally:
        wire.close()


def cut(data: bytes, chance: random.Random) -> bytes:
    """As much of it as came before the connection broke."""
    return data[: chance.randrange(len(data) + 1)] if data else data
