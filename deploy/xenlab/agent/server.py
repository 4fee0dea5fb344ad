"""The agent's port: JSON lines of requests and events, consoles, and files, told apart by the first line."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from deploy.xenlab.agent import fields
from deploy.xenlab.agent.domains import Domains
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.journal import report

PORT = 7700
LINE = 1 << 20
BEHIND = 4 << 20
FIRST_LINE = 600.0
BOOT_FILES = Path("/boot/guest")
CHUNK = 1 << 18

Handle = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Server:
    """Serves any number of clients; each that said `hello` hears every event."""

    def __init__(self) -> None:
        self._hearers: set[asyncio.StreamWriter] = set()
        self._handle: Handle | None = None
        self._domains: Domains | None = None

    async def start(self, handle: Handle, domains: Domains | None) -> asyncio.Server:
        self._handle = handle
        self._domains = domains
        return await asyncio.start_server(self._serve, "0.0.0.0", PORT, limit=LINE)

    def tell(self, event: dict[str, Any]) -> None:
        """Sends an event to all; a client that does not read is let go and must look anew."""
        line = json.dumps(event).encode() + b"\n"
        for writer in list(self._hearers):
            if writer.transport.get_write_buffer_size() > BEHIND:
                self._hearers.discard(writer)
                writer.transport.abort()
            else:
                writer.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = _decoded(await reader.readline())
            if first is None:
                return
            if "console" in first:
                await self._console(first, reader, writer)
            elif "put_file" in first:
                await _answer(writer, None, _put_file(first, reader))
            else:
                await self._requests(first, reader, writer)
        except (AgentError, ValueError) as error:
            code = error.code if isinstance(error, AgentError) else "bad_request"
            writer.write(_line({"error": {"code": code, "message": str(error)}}))
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._hearers.discard(writer)
            writer.close()

    async def _requests(
        self, first: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._handle is not None
        request: dict[str, Any] | None = first
        under_way: set[asyncio.Task[None]] = set()
        while request is not None:
            do, arguments = request.get("do"), request.get("args", {})
            if not isinstance(do, str) or not isinstance(arguments, dict):
                raise AgentError("bad_request", "a request has `id`, `do` and `args`")
            if do == "hello":
                self._hearers.add(writer)
            # Not ended with the connection: what was asked for is done, the asker looks anew.
            work = asyncio.create_task(
                _answer(writer, request.get("id"), self._handle(do, arguments))
            )
            under_way.add(work)
            work.add_done_callback(under_way.discard)
            request = _decoded(await reader.readline())
        if under_way:
            await asyncio.wait(under_way)

    async def _console(
        self, first: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._domains is not None
        domain = self._domains.one(fields.identity(first, "console"))
        if domain.terminal is not None:
            await asyncio.wait([domain.terminal])
        if (console := domain.console) is None:
            raise AgentError("no_console", f"domain {domain.uuid} has no console")
        writer.write(_line({"ok": True}))
        writer.transport.set_write_buffer_limits(high=CHUNK)

        async def typed() -> None:
            while data := await reader.read(4096):
                await console.write(data)

        ways = [asyncio.create_task(typed()), asyncio.create_task(console.follow(writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _answer(writer: asyncio.StreamWriter, number: Any, work: Awaitable[Any]) -> None:
    answer: dict[str, Any] = {"id": number}
    try:
        answer["result"] = await work
    except AgentError as error:
        answer["error"] = {"code": error.code, "message": str(error)}
    except Exception as error:
        report(f"a request failed: {error!r}")
        answer["error"] = {"code": "agent_failed", "message": repr(error)}
    if not writer.is_closing():
        writer.write(_line(answer))


async def _put_file(first: dict[str, Any], reader: asyncio.StreamReader) -> dict[str, Any]:
    """`size` bytes follow the first line; they become a boot file, whole or not at all."""
    name = fields.plain_name(first, "put_file")
    size = fields.number(first, "size", 0, 1 << 29)
    BOOT_FILES.mkdir(parents=True, exist_ok=True)
    unfinished, digest = BOOT_FILES / f".{name}.part", hashlib.sha256()
    with unfinished.open("wb") as file:
        while size:
            if not (data := await asyncio.wait_for(reader.read(min(size, CHUNK)), 60)):
                raise AgentError("file_cut_short", f"{name} came only in part")
            file.write(data)
            digest.update(data)
            size -= len(data)
    unfinished.replace(BOOT_FILES / name)
    return {"path": str(BOOT_FILES / name), "sha256": digest.hexdigest()}


def _decoded(line: bytes) -> dict[str, Any] | None:
    """A line as an object; None at the connection's end."""
    if not line:
        return None
    value = json.loads(line)
    if not isinstance(value, dict):
        raise AgentError("bad_request", "a request is a JSON object on one line")
    return value


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
