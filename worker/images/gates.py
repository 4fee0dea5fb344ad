"""How hard all workers of one machine may press one registry together.

Three things, each shared by files in one folder: requests in flight, bytes in a second, and the time until
which a registry wants to be left alone.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from worker.images.deadline import Deadline
from worker.images.errors import RegistryBusy
from worker.images.locks import Locks

LONGEST_HOLD: Final = timedelta(hours=1)
PATIENCE: Final = timedelta(seconds=10)
"""So long a request waits for a registry that wants to be left alone; beyond, the image waits."""
_BURST_SECONDS: Final = 1.0
_STALE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Gates:
    """`folder` is one that only we can write, on the machine's own disk; None: no limits but one's own.

    `requests` (1 to 64) in flight and `bytes_per_second` (0: as fast as it goes) are for each host and port.
    """

    folder: Path | None = None
    requests: int = 8
    bytes_per_second: int = 0
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.time, repr=False)

    @contextmanager
    def request(self, host: str, deadline: Deadline) -> Iterator[None]:
        """One request to `host` ("host:port"), from its first byte to the last of its answer."""
        if self.folder is None:
            yield
            return
        with self._locks.one_of(f"request {host}", self.requests, deadline):
            yield

    def took(self, host: str, size: int, deadline: Deadline) -> None:
        """Waits for as long as `size` bytes from `host` are to take. Raises TookTooLong."""
        if self.folder is None or not self.bytes_per_second:
            return
        file = self._file("pace", host)
        if not file.exists():
            self._sweep()
        with self._locks.held(f"pace {host}", deadline):
            now = self.clock()
            free = max(_read(file, most=now + _STALE_SECONDS), now - _BURST_SECONDS)
            free += size / self.bytes_per_second
            file.write_text(repr(free))
        if free > now:
            self.pause(min(free - now, deadline.remaining()))

    def hold(self, what: str, wish: timedelta) -> None:
        """Nobody asks for `what` for so long, an hour at most."""
        if self.folder is None:
            return
        self._sweep()
        until = self.clock() + min(wish, LONGEST_HOLD).total_seconds()
        self._file("hold", what).write_text(repr(until))

    def wait_for(self, what: str, host: str, deadline: Deadline) -> None:
        """Wait until `what` may be asked for. Raises RegistryBusy when that is too long to wait."""
        if self.folder is None:
            return
        now = self.clock()
        until = _read(self._file("hold", what), most=now + LONGEST_HOLD.total_seconds())
        left = timedelta(seconds=max(0.0, until - now))
        if left > PATIENCE:
            raise RegistryBusy(host=host, retry_after=left)
        if left:
            self.pause(min(left.total_seconds(), deadline.remaining()))

    @property
    def _locks(self) -> Locks:
        assert self.folder is not None
        return Locks(self.folder / "locks")

    def _file(self, kind: str, name: str) -> Path:
        """By hash: tenants name hosts."""
        assert self.folder is not None
        return self.folder / f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def _sweep(self) -> None:
        """Hosts of tenants are without number; what an hour has passed over says nothing any more."""
        assert self.folder is not None
        for file in [*self.folder.glob("pace-*"), *self.folder.glob("hold-*")]:
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - LONGEST_HOLD.total_seconds():
                    file.unlink()


def _read(file: Path, *, most: float) -> float:
    """A time that was written; 0 when none was, or one that cannot be (a clock that was set back)."""
    try:
        told = float(file.read_text())
    except (FileNotFoundError, ValueError):
        return 0.0
    return told if told <= most else 0.0
