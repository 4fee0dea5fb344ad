"""Blobs that this machine has pulled before, by digest, for all tenants.

That bytes are here lets nobody have them: each blob is kept with the places it came from, and who asks for it
at one of them has to be let in there first (`Repository`). Bytes are checked on their way out, so that a disk
that turns a bit costs a pull and nothing else. Losing the folder costs pulls only.

    folder/locks              see `locks.py`
    folder/new/NAME           being written
    folder/blobs/DIGEST/bytes
    folder/blobs/DIGEST/at-…  an empty file for each place, by hash

An entry's age is the time its `bytes` were last used, which we write ourselves: file systems may not.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

from worker.images.deadline import Deadline
from worker.images.errors import TookTooLong
from worker.images.locks import Locks
from worker.images.records import GIB

_CHUNK: Final = 1024**2
_LONGEST_QUEUE: Final = timedelta(seconds=30)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlobCache:
    """`folder` is one that only we can write, on one file system of this machine's."""

    folder: Path
    most_bytes: int = 20 * GIB
    most_age: timedelta = timedelta(days=30)
    """Unused for so long, a blob goes."""
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def came_from(self, digest: str, place: str) -> bool:
        """Whether the blob is here, and once came from `place`."""
        entry = self._entry(digest)
        return (entry / _at(place)).exists() and (entry / "bytes").exists()

    def copy(self, digest: str, into: BinaryIO) -> bool:
        """Write the blob from where `into` stands; False when it is not here, or not sound any more.

        What is not sound goes. Raises OSError for `into` only.
        """
        try:
            file = (self._entry(digest) / "bytes").open("rb")
        except OSError:
            return False
        start, check = into.tell(), hashlib.new(digest.partition(":")[0])
        with file:
            for chunk in _read(file):
                check.update(chunk)
                into.write(chunk)
            if check.hexdigest() == digest.partition(":")[2]:
                with suppress(OSError):
                    os.utime(file.fileno(), (self.clock(),) * 2)
                return True
        _log.warning("A cached blob was spoiled: %s", digest)
        self._remove(self._entry(digest))
        into.seek(start)
        into.truncate()
        return False

    def put(self, digest: str, source: BinaryIO, size: int, places: list[str]) -> None:
        """Keep the `size` bytes that `source` gives from where it stands, which match the digest.

        Keeping is no duty: what goes wrong is logged, and the blob is not here.
        """
        if size > self.most_bytes:
            return
        try:
            with self._only_one():
                self._make_room(size)
                self._write(digest, source)
            for place in places:
                (self._entry(digest) / _at(place)).touch()
        except (OSError, TookTooLong) as error:
            _log.warning("A blob is not cached: %s: %s", digest, error)

    def note(self, digest: str, places: list[str]) -> None:
        """That the blob, which is here, may be had at `places` too."""
        for place in places:
            with suppress(OSError):
                (self._entry(digest) / _at(place)).touch()

    def trim(self) -> None:
        """Let go of what is old, or too much, and of what dead writers left."""
        with suppress(OSError, TookTooLong), self._only_one():
            self._make_room(0)

    @contextmanager
    def alone_at(self, digest: str, place: str, deadline: Deadline) -> Iterator[None]:
        """Only one on this machine pulls a blob from a place. Raises TookTooLong."""
        with self._locks.held(f"pull {digest} {place}", deadline):
            yield

    # ------------------------------------------------------------------------------------------- within

    @property
    def _locks(self) -> Locks:
        return Locks(self.folder / "locks")

    def _entry(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "-")

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """One at a time measures and writes; a copy within one machine is short."""
        with self._locks.held("room", Deadline(_LONGEST_QUEUE)):
            (self.folder / "blobs").mkdir(exist_ok=True)
            (self.folder / "new").mkdir(exist_ok=True)
            yield

    def _write(self, digest: str, source: BinaryIO) -> None:
        """Whole or not at all, also when the machine falls: written, on the disk, and then named."""
        with tempfile.NamedTemporaryFile(dir=self.folder / "new", delete=False) as file:
            try:
                for chunk in _read(source):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                os.utime(file.fileno(), (self.clock(),) * 2)
                entry = self._entry(digest)
                entry.mkdir(exist_ok=True)
                Path(file.name).rename(entry / "bytes")
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        for folder in (entry, entry.parent):
            _sync(folder)

    def _make_room(self, size: int) -> None:
        """So that `size` bytes more are within the bound: the longest unused go first."""
        for left in (self.folder / "new").iterdir():  # by one who died: only one writes at a time
            left.unlink()
        now, total, entries = self.clock(), 0, []
        for entry in (self.folder / "blobs").iterdir():
            try:
                told = (entry / "bytes").stat()
            except OSError:  # a writer died between folder and bytes
                self._remove(entry)
                continue
            if told.st_mtime < now - self.most_age.total_seconds():
                self._remove(entry)
                continue
            total += told.st_size
            entries.append((told.st_mtime, entry, told.st_size))
        for _, entry, its in sorted(entries):
            if total + size <= self.most_bytes:
                return
            self._remove(entry)
            total -= its

    def _remove(self, entry: Path) -> None:
        """Who is reading goes on reading: the kernel keeps the bytes for as long."""
        shutil.rmtree(entry, ignore_errors=True)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _at(place: str) -> str:
    return f"at-{hashlib.sha256(place.encode()).hexdigest()[:32]}"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
