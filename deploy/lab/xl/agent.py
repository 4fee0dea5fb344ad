"""A connection with the agent in a host's dom0: JSON lines; requests, their answers, and events."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Callable
from typing import Any

from deploy.lab.xl.hardware import Place

LINE = 1 << 22
CONNECT = 10.0
"""Seconds until a host's agent has to answer at all."""


class AgentError(Exception):
    """The agent refused: `code` and its words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class AgentLost(Exception):
    """The connection ended, or no answer came in time; what was asked for may yet be done."""


class Agent:
    """Many requests may be under way at once; events come to `on_event`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(
        cls, own: socket.socket, place: Place, on_event: Callable[[dict[str, Any]], None]
    ) -> Agent:
        """Raises AgentLost."""
        return cls(*await connect(own, place), on_event)

    async def call(self, do: str, *, timeout: float = 60.0, **arguments: Any) -> Any:
        """What the agent answers. Raises AgentError, AgentLost."""
        if self._reading.done():
            raise AgentLost("the connection is closed")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "do": do, "args": arguments}
        self._writer.write(json.dumps(request).encode() + b"\n")
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError as late:
            raise AgentLost(f"no answer to {do} in {timeout:g} s") from late
        finally:
            self._waiting.pop(number, None)

    async def is_lost(self, *, within: float) -> bool:
        """Whether the connection ends within so many seconds."""
        ended, _ = await asyncio.wait([self._reading], timeout=within)
        return bool(ended)

    def close(self) -> None:
        """End the connection now."""
        self._writer.transport.abort()

    async def _read(self) -> None:
        why = "the agent closed the connection"
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError, KeyError) as error:
            why = repr(error)
        finally:
            self.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(AgentLost(why))

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._on_event(message)
            return
        waiting = self._waiting.get(message["id"])
        if waiting is None or waiting.done():
            return
        if "error" in message:
            waiting.set_exception(AgentError(message["error"]["code"], message["error"]["message"]))
        else:
            waiting.set_result(message["result"])


async def connect(
    own: socket.socket, place: Place
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams over a socket that is not connected yet. Raises AgentLost."""
    own.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT):
            await loop.sock_connect(own, (place.address, place.port))
        return await asyncio.open_connection(sock=own, limit=LINE)
    except (OSError, TimeoutError) as error:
        own.close()
        raise AgentLost(f"{place.address}:{place.port} does not answer: {error!r}") from error


async def open_console(
    own: socket.socket, place: Place, uuid: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A domain's console, bytes both ways. Raises AgentError, AgentLost."""
    reader, writer = await connect(own, place)
    try:
        writer.write(json.dumps({"console": uuid}).encode() + b"\n")
        async with asyncio.timeout(CONNECT + 20.0):
            answer = json.loads(await reader.readline() or b"{}")
    except (OSError, ValueError, TimeoutError) as error:
        writer.transport.abort()
        raise AgentLost(f"no console of {uuid}: {error!r}") from error
    if not answer.get("ok"):
        writer.transport.abort()
        said = answer.get("error") or {"code": "lost", "message": "the connection ended"}
        raise AgentError(said["code"], said["message"])
    return reader, writer
