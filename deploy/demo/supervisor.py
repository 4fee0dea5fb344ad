"""Runs processes beside each other in one terminal; starts again what crashes, leaves nothing behind.

One thread, one selector. Each child leads a process group of its own, so that Ctrl-C reaches the
supervisor alone and a stopped child takes its own children along; and each is tied to the supervisor's
life by the kernel (deploy/local/leash.py). A child is a program, or a copy of the supervisor that runs a
function (deploy/demo/fork.py). Why not a ready-made one: docs/design/0001-demo-supervisor.md.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from deploy.demo.console import Console
from deploy.demo.fork import Fork
from deploy.local.leash import acting_as, leash

# Seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STEADY = 60.0  # a child that ran this long starts its next pause from the shortest again
_TICK = 0.1
_LONGEST_LINE = 64 * 1024
_KEPT_LINES = 100


class Stopped(Exception):
    """A person or the system asked us to stop."""


class GaveUp(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True)
class Child:
    """A program to run, or a function in a copy of this process, and how it likes to be stopped."""

    name: str
    argv: Sequence[str] = ()
    run: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    stop_seconds: float = 10.0
    # Children of a higher stage are stopped first; those of one stage together.
    stage: int = 1
    # Open files, by number, that it takes up.
    inherits: tuple[int, ...] = ()
    # What a quiet child says is shown only when it ends unasked.
    quiet: bool = False
    # Whether its process number is told at each start.
    announced: bool = False


class _Running:
    """One child's present process and what is left of its last line."""

    def __init__(self, child: Child, *, once: bool = False) -> None:
        self.child = child
        self.once = once
        self.code: int | None = None
        self.process: subprocess.Popen[bytes] | Fork | None = None
        self.started = 0.0
        self.pause = _FIRST_PAUSE
        self.due: float | None = None
        self.rest = b""
        self.opening: list[str] = []
        self.latest: deque[str] = deque(maxlen=_KEPT_LINES)

    def lines(self, data: bytes) -> Iterator[str]:
        *whole, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > _LONGEST_LINE:
            whole, self.rest = [*whole, self.rest], b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")


class Supervisor:
    """Use as a context manager: on the way out everything is stopped, in order, whatever happened."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._children: list[_Running] = []
        self._selector = selectors.DefaultSelector()
        self._stop_asked = 0
        self._bell, self._ear = socket.socketpair()
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Supervisor":
        for end in (self._bell, self._ear):
            end.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._old[number] = signal.signal(number, self._on_signal)
        self._selector.register(self._ear, selectors.EVENT_READ, None)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop_all()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in self._old.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._selector.close()
            self._bell.close()
            self._ear.close()

    def start(self, child: Child) -> None:
        """Run `child`, now and again after each crash, until everything stops."""
        running = _Running(child)
        self._children.append(running)
        self._spawn(running)

    def run(self, child: Child, *, seconds: float) -> None:
        """Run `child` once, to its end, beside the others. Raises GaveUp unless it succeeds."""
        self.begin(child)(seconds)

    def begin(self, child: Child) -> Callable[[float], None]:
        """Run `child` once; what is answered waits for its end so many seconds, and raises as `run` does."""
        running = _Running(child, once=True)
        self._children.append(running)
        self._spawn(running)

        def finish(seconds: float) -> None:
            self.wait_until(lambda: running.code is not None, child.name, seconds=seconds)
            self._children.remove(running)
            if running.code:
                raise GaveUp(f"{child.name} failed ({_ending(running.code)})")

        return finish

    def wait_until(self, holds: Callable[[], bool], what: str, *, seconds: float) -> None:
        """Serve the children until `holds`. Raises GaveUp when that takes too long, Stopped."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise GaveUp(f"{what} was not ready within {seconds:.0f} s")
            self._turn()

    def has_said(self, name: str, opening: str) -> bool:
        """The child `name` printed a line that starts with `opening` since its last start."""
        return any(
            line.startswith(opening)
            for running in self._children
            if running.child.name == name
            for line in running.opening
        )

    def number_of(self, name: str) -> int | None:
        """The process that the child `name` is now; None while it is none."""
        for running in self._children:
            if running.child.name == name and running.process is not None:
                return running.process.pid
        return None

    def forever(self) -> NoReturn:
        """Serve the children until someone asks us to stop; raises Stopped then."""
        while True:
            self._turn()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stop_asked += 1

    def _turn(self) -> None:
        self._hear(_TICK)
        if self._stop_asked:
            raise Stopped
        now = time.monotonic()
        for running in self._children:
            if running.process is not None and running.process.poll() is not None:
                self._ended(running, now)
            elif running.due is not None and now >= running.due:
                self._spawn(running)

    def _spawn(self, running: _Running) -> None:
        child = running.child
        running.due, running.rest, running.opening = None, b"", []
        running.latest.clear()
        running.started = time.monotonic()
        running.process = _start(child)
        assert running.process.stdout is not None
        os.set_blocking(running.process.stdout.fileno(), False)
        self._selector.register(running.process.stdout, selectors.EVENT_READ, running)
        if child.announced:
            self.console.says(child.name, f"process {running.process.pid}")

    def _hear(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._ear.recv(4096)
            else:
                self._read(key.data)

    def _read(self, running: _Running) -> bool:
        """Print what `running` said; False when there is nothing now."""
        assert running.process is not None
        assert running.process.stdout is not None
        stream = running.process.stdout
        if stream.closed:
            return False
        try:
            data = os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return False
        for line in running.lines(data or b"\n" * bool(running.rest)):
            if len(running.opening) < _KEPT_LINES:
                running.opening.append(line)
            if running.child.quiet:
                running.latest.append(line)
            else:
                self.console.says(running.child.name, line)
        if not data:
            self._selector.unregister(stream)
            stream.close()
        return bool(data)

    def _drain(self, running: _Running) -> None:
        """Print the last words of a process that ended, and let go of its output."""
        while self._read(running):
            pass
        assert running.process is not None
        assert running.process.stdout is not None
        if not running.process.stdout.closed:  # a grandchild still holds the other end
            self._selector.unregister(running.process.stdout)
            running.process.stdout.close()

    def _ended(self, running: _Running, now: float) -> None:
        process = running.process
        assert process is not None
        self._drain(running)
        _kill_group(process.pid)
        code = process.returncode
        assert code is not None
        running.process, running.code = None, code
        if running.once:
            return
        for line in running.latest:
            self.console.says(running.child.name, line)
        if now - running.started > _STEADY:
            running.pause = _FIRST_PAUSE
        running.due = now + running.pause
        self.console.complain(
            f"{running.child.name} ended ({_ending(code)});"
            f" starting it again in {running.pause:g} s"
        )
        running.pause = min(running.pause * 2, _LONGEST_PAUSE)

    def _stop_all(self) -> None:
        self._stop_asked = 0
        for stage in sorted({running.child.stage for running in self._children}, reverse=True):
            self._stop([r for r in self._children if r.child.stage == stage])

    def _stop(self, stage: list[_Running]) -> None:
        """Ask politely, all at once; kill those that take too long, or when asked a second time."""
        alive = [running for running in stage if running.process is not None]
        asked = time.monotonic()
        for running in alive:
            assert running.process is not None
            running.process.send_signal(running.child.stop_signal)
        while alive:
            self._hear(_TICK / 2)
            for running in list(alive):
                process = running.process
                assert process is not None
                late = time.monotonic() - asked > running.child.stop_seconds
                if process.poll() is None and (late or self._stop_asked):
                    self.console.complain(f"{running.child.name} does not stop: killing it")
                    _kill_group(process.pid)
                    process.wait(10)
                if process.poll() is not None:
                    self._drain(running)
                    _kill_group(process.pid)
                    running.process = None
                    alive.remove(running)


def _start(child: Child) -> "subprocess.Popen[bytes] | Fork":
    # Forking, and running Python in between, is safe here: this process has a single thread.
    tie = leash(child.death_signal)
    if child.run is not None:
        return Fork(
            child.run,
            name=child.name,
            environment=child.environment,
            cwd=child.cwd,
            inherits=child.inherits,
            tie=tie,
        )
    return subprocess.Popen(
        child.argv,
        env={**os.environ, **child.environment},
        cwd=child.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=child.inherits,
        process_group=0,
        preexec_fn=tie,
        **acting_as(child.account),
    )


def _kill_group(leader: int) -> None:
    """End what a child left behind in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"
