"""What a server of ours is to whoever starts it, and a way to run one for the length of a block."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from deploy.local.leash import acting_as, leash


class Service(Protocol):
    """A program with data of its own that serves on a socket."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def stop_signal(self) -> signal.Signals:
        """Asks it to end in good order."""

    @property
    def death_signal(self) -> signal.Signals:
        """Reaches it when whoever started it is gone."""

    @property
    def account(self) -> str | None:
        """Whose rights it runs with; None: the caller's."""

    def prepare(self) -> None:
        """Make what it needs on disk; harmless when that is there already."""

    def argv(self) -> list[str]:
        """The command that serves in the foreground until it is told to stop."""

    def is_ready(self) -> bool:
        """It answers."""

    def environment(self) -> Mapping[str, str]:
        """The variables by which Bulkhead finds it."""


class ServiceFailed(Exception):
    """A service of ours ended, or did not answer in time."""


def spawn(service: Service, *, output: int) -> "subprocess.Popen[bytes]":
    """Start `service` tied to the caller's life; `output` is a file number for what it prints."""
    return subprocess.Popen(
        service.argv(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        process_group=0,  # Ctrl-C reaches the caller alone, which stops things in order
        preexec_fn=leash(service.death_signal),
        **acting_as(service.account),
    )


@contextmanager
def serving(service: Service, log: Path, *, seconds: float = 30) -> Iterator[Service]:
    """`service`, answering, inside the block; stopped behind it. Raises ServiceFailed with its log."""
    service.prepare()
    with log.open("wb") as output:
        process = spawn(service, output=output.fileno())
    try:
        deadline = time.monotonic() + seconds
        while not service.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"{service.name} does not serve:\n{log.read_text(errors='replace')}"
                raise ServiceFailed(message)
            time.sleep(0.02)
        yield service
    finally:
        process.send_signal(service.stop_signal)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
