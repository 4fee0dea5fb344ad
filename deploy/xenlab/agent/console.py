"""Text consoles: what a guest writes is kept, and followed by any number of readers.

xenconsoled gives each domain's console a pseudo-terminal. Its last 64 KiB are kept, so that a late reader sees
the past. A reader that is slow holds the guest up, as a full pipe would; one that stands still for ten
seconds is let go.
"""

from __future__ import annotations

import asyncio
import os
import tty
from typing import Protocol

KEPT = 65536
CHUNK = 16384
STANDSTILL = 10.0


class Writer(Protocol):
    """What a reader's connection offers: asyncio.StreamWriter does."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class Console:
    """One domain's console. `close` it when the domain ends."""

    def __init__(self, path: str) -> None:
        self._terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        tty.setraw(self._terminal)
        self._kept = bytearray()
        self._written = 0
        self._readers: dict[object, int] = {}
        self._changed = asyncio.Event()
        self._reading = False
        self.open = True
        self._resume()

    async def follow(self, writer: Writer) -> None:
        """Sends what is kept and what comes, until the console or the connection ends."""
        me = object()
        self._readers[me] = self._written - len(self._kept)
        try:
            while self.open or self._readers[me] < self._written:
                begin = self._written - len(self._kept)
                data = bytes(self._kept[max(0, self._readers[me] - begin) :])
                if not data:
                    await self._changed.wait()
                    continue
                writer.write(data)
                await asyncio.wait_for(writer.drain(), STANDSTILL)
                self._readers[me] = max(begin, self._readers[me]) + len(data)
                self._resume()
        finally:
            del self._readers[me]
            self._resume()

    async def write(self, data: bytes) -> None:
        """Types into the console; waits while the guest does not read."""
        loop = asyncio.get_running_loop()
        while data and self.open:
            try:
                data = data[os.write(self._terminal, data) :]
            except BlockingIOError:
                writable = asyncio.Event()
                loop.add_writer(self._terminal, writable.set)
                try:
                    await writable.wait()
                finally:
                    if self.open:
                        loop.remove_writer(self._terminal)
            except OSError:
                return

    def close(self) -> None:
        """Reads what is left, then lets readers go."""
        if self.open:
            while self._read():
                pass
        if self.open:
            self._end()

    def _end(self) -> None:
        self.open = False
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._terminal)
        loop.remove_writer(self._terminal)
        os.close(self._terminal)
        self._wake()

    def _resume(self) -> None:
        """Reads from the terminal while no reader would lose what it has not had."""
        if not self.open:
            return
        loop = asyncio.get_running_loop()
        wanted = all(self._written - at < KEPT - CHUNK for at in self._readers.values())
        if wanted and not self._reading:
            loop.add_reader(self._terminal, self._read)
        elif not wanted and self._reading:
            loop.remove_reader(self._terminal)
        self._reading = wanted

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: xenconsoled closed its side
            data = b""
        if not data:
            self._end()
            return False
        self._kept += data
        self._written += len(data)
        del self._kept[:-KEPT]
        self._wake()
        self._resume()
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
