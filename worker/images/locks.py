"""Locks by name between all threads and processes of one machine, in one file that stays empty.

A name stands for a byte of the file, far beyond its end, and the lock is the kernel's on that byte (an "open
file description lock", fcntl(2)). So no name leaves anything behind, and the kernel takes a lock back when
its holder dies.
"""

import errno
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from worker.images.deadline import Deadline

MOST_PLACES: Final = 64
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
# struct flock of Linux: type, whence, start, length, pid; a pid of 0 asks for this kind of lock.
_FLOCK: Final = "@hhqqi4x"


class Locks:
    """`file` and its folder are made when they are absent."""

    def __init__(self, file: Path, pause: Callable[[float], None] = time.sleep) -> None:
        self._file = file
        self._pause = pause

    @contextmanager
    def one_of(self, name: str, places: int, deadline: Deadline) -> Iterator[None]:
        """Hold one of `places` places (1 to 64) of `name`; waits for one. Raises TookTooLong."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._file.open("ab") as file:
            pause = _FIRST_PAUSE
            while not _take_any(file.fileno(), _first_byte(name), places):
                self._pause(min(pause, deadline.remaining()))
                pause = min(2 * pause, _LONGEST_PAUSE)
            yield

    def held(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Hold `name` alone. Raises TookTooLong."""
        return self.one_of(name, 1, deadline)


def _first_byte(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") * MOST_PLACES


def _take_any(descriptor: int, first: int, places: int) -> bool:
    for byte in range(first, first + places):
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return True
    return False
