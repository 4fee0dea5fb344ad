"""xenstored, spoken to over its socket: messages of Xen's public header io/xs_wire.h."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import struct
from collections.abc import Callable

SOCKET = "/run/xenstored/socket"
ANSWER = 30.0
LONGEST = 4096
LUMP = 1 << 16
HEADER = struct.Struct("<IIII")  # type, request, transaction, length
DIRECTORY, READ, WATCH, UNWATCH, INTRODUCE = 1, 2, 4, 5, 8
WRITE, MKDIR, REMOVE, SET_PERMISSIONS = 11, 12, 13, 14
WATCH_EVENT, ERROR = 15, 16


class Xenstore:
    """One connection. A node that is missing raises FileNotFoundError; other errors are OSErrors."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._watchers: dict[str, Callable[[str], None]] = {}
        self._task = asyncio.create_task(self._listen())

    @classmethod
    async def connect(cls, path: str = SOCKET) -> Xenstore:
        return cls(*await asyncio.open_unix_connection(path))

    async def read(self, path: str) -> str:
        """A node's value; guests write some, so undecodable bytes are replaced."""
        return (await self._ask(READ, path)).decode(errors="replace")

    async def read_or(self, path: str, default: str = "") -> str:
        """A node's value, or the default when there is no such node."""
        try:
            return await self.read(path)
        except FileNotFoundError:
            return default

    async def write(self, path: str, value: str) -> None:
        """Makes the node and its parents when needed."""
        await self._call(WRITE, path.encode() + b"\0" + value.encode())

    async def make(self, path: str) -> None:
        """An empty node."""
        await self._ask(MKDIR, path)

    async def remove(self, path: str) -> None:
        """A node with all below it; a missing one is no error."""
        try:
            await self._ask(REMOVE, path)
        except FileNotFoundError:
            return

    async def names(self, path: str) -> list[str]:
        """A node's children; none for a missing node."""
        try:
            return (await self._ask(DIRECTORY, path)).decode(errors="replace").split("\0")[:-1]
        except FileNotFoundError:
            return []

    async def permit(self, path: str, *permissions: str) -> None:
        """Sets who owns and reads a node: `n5` owned by domain 5, `r0` read by domain 0."""
        await self._call(
            SET_PERMISSIONS, b"".join(part.encode() + b"\0" for part in (path, *permissions))
        )

    async def introduce(self, domid: int, frame: int, port: int) -> None:
        """Has xenstored serve a domain's ring: a frame of its memory, and an event channel."""
        parts = (str(domid), str(frame), str(port))
        await self._call(INTRODUCE, b"".join(part.encode() + b"\0" for part in parts))

    async def watch(self, path: str, watcher: Callable[[str], None]) -> None:
        """Calls the watcher with each path that changes at or below `path`, and once at first."""
        self._watchers[path] = watcher
        await self._call(WATCH, path.encode() + b"\0" + path.encode() + b"\0")

    async def unwatch(self, path: str) -> None:
        if self._watchers.pop(path, None) is not None:
            await self._call(UNWATCH, path.encode() + b"\0" + path.encode() + b"\0")

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        await asyncio.wait([self._task])
        await self._writer.wait_closed()

    async def closed(self) -> None:
        """Waits until the connection ends, which it should not."""
        await asyncio.wait([self._task])

    async def _ask(self, kind: int, path: str) -> bytes:
        return await self._call(kind, path.encode() + b"\0")

    async def _call(self, kind: int, payload: bytes) -> bytes:
        if len(payload) > LONGEST:
            raise OSError(errno.E2BIG, "xenstore takes 4096 bytes of path and value")
        number = next(self._numbers) & 0x7FFFFFFF
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(HEADER.pack(kind, number, 0, len(payload)) + payload)
            return await asyncio.wait_for(answer, ANSWER)
        finally:
            self._waiting.pop(number, None)

    async def _listen(self) -> None:
        # All that is there at once: what wakes an event loop takes it some 3 ms here, and a device that
        # comes is told of by dozens of events.
        data = b""
        try:
            while some := await self._reader.read(LUMP):
                data += some
                at = 0
                while len(data) >= at + HEADER.size:
                    kind, number, _, length = HEADER.unpack_from(data, at)
                    end = at + HEADER.size + length
                    if len(data) < end:
                        break
                    self._take(kind, number, data[at + HEADER.size : end])
                    at = end
                data = data[at:]
        except ConnectionError:
            pass
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("xenstored closed the connection"))

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == WATCH_EVENT:
            path, token = payload.decode(errors="replace").split("\0")[:2]
            if watcher := self._watchers.get(token):
                watcher(path)
        elif (answer := self._waiting.get(number)) and not answer.done():
            if kind == ERROR:
                answer.set_exception(_error(payload))
            else:
                answer.set_result(payload)


def _error(payload: bytes) -> OSError:
    name = payload.rstrip(b"\0").decode(errors="replace")
    number = getattr(errno, name, errno.EIO)
    return OSError(number, f"xenstore: {os.strerror(number)} ({name})")
