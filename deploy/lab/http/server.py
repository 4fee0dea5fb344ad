"""The HTTP server of one host: XAPI's own, with its status lines, headers and limits.

Shapes and texts are recorded (http_basics): errors are small HTML pages, header names keep the
case the daemon uses, a request without Content-Length or with a bad one is an internal error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from deploy.lab.errors import XapiError
from deploy.lab.faults import ConnectionDropped

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

log = logging.getLogger(__name__)

LONGEST_HEADERS = 1024
LONGEST_BODY = 300 * 1024
HEADER_TIMEOUT = 60.0
MOST_CONNECTIONS = 800

NO_CACHE = "cache-control: no-cache, no-store"
CORS = ("Access-Control-Allow-Origin: *", "Access-Control-Allow-Headers: X-Requested-With")


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    version: str
    headers: dict[str, str]
    """Names in lower case."""
    machine: Machine
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: bytes = b""

    @property
    def lab(self) -> Lab:
        return self.machine.lab

    @property
    def keeps_alive(self) -> bool:
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" or (wish != "close" and self.version == "HTTP/1.1")

    @property
    def cookies(self) -> dict[str, str]:
        pairs = (part.strip().partition("=") for part in self.headers.get("cookie", "").split(";"))
        return {name: unquote(value) for name, _, value in pairs if name}


@dataclass
class Response:
    status: str
    body: bytes = b""
    content_type: str = "text/html"
    extra: tuple[str, ...] = ()
    close: bool = True
    order: tuple[str, ...] = field(default=())

    def render(self, version: str, *, keep_alive: bool) -> bytes:
        connection = "keep-alive" if keep_alive and not self.close else "close"
        if self.content_type == "text/html":
            head = [
                f"content-length: {len(self.body)}",
                f"content-type: {self.content_type}",
                f"connection: {connection}",
                NO_CACHE,
                *self.extra,
            ]
        else:
            head = [
                f"content-length: {len(self.body)}",
                f"connection: {connection}",
                NO_CACHE,
                *([f"content-type: {self.content_type}"] if self.content_type else []),
                *self.extra,
            ]
        lines = "\r\n".join([f"{version} {self.status}", *head, "", ""])
        return lines.encode() + self.body


def page(status: str, title: str, text: str, *extra: str) -> Response:
    body = f"<html><body><h1>HTTP {title}</h1>{text}</body></html>"
    return Response(status, body.encode(), extra=extra)


def forbidden() -> Response:
    return page("403 Forbidden", "403 forbidden", "Access to the requested resource is forbidden.")


def unauthorised(realm: str) -> Response:
    return page(
        "401 Unauthorised",
        "401 unauthorised",
        "Please check your credentials and retry.",
        f'WWW-Authenticate: Basic realm="{realm}"',
    )


def internal_error(detail: str) -> Response:
    return page(
        "500 Internal Error",
        "500 internal server error",
        "An unexpected error occurred; please wait a while and try again. If the problem persists,"
        " please contact your support representative."
        f"<h1> Additional information </h1>{detail}",
    )


def headers_too_large() -> Response:
    return page(
        "431 Request Header Fields Too Large",
        "431 request header fields too large",
        "Exceeded the maximum header size.",
    )


def not_implemented(method: str) -> Response:
    return page(
        "501 Method not implemented",
        "501 Method Not Implemented",
        f"<p>Unknown {method} not supported.<br /></p>",
    )


Handler = Callable[[Request], Awaitable["Response | None"]]
HANDLERS: dict[tuple[str, str], Handler] = {}
"""(method, path) → what serves it. A handler that answers None has written its own response
and the connection is closed."""


def handler(method: str, *paths: str) -> Callable[[Handler], Handler]:
    def register(function: Handler) -> Handler:
        for path in paths:
            HANDLERS[method, path] = function
        return function

    return register


CALLS = ("/", "/RPC2", "/jsonrpc")
_METHODS = {"GET", "PUT", "POST", "OPTIONS", "CONNECT"}


class _Refused(Exception):
    """The request is answered before it reaches a handler."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


class HttpServer:
    """Listens for one machine; connections are cut when the machine stops answering."""

    def __init__(self, machine: Machine, tls: ssl.SSLContext | None) -> None:
        self.machine = machine
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self.machine.address, self.machine.port, ssl=self.tls, backlog=128
        )
        self.machine.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self.cut()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Drop every open connection, as a dead machine does."""
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        if not self.machine.answers or len(self._connections) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
            pass  # the peer went away: there is nobody left to tell
        except ConnectionDropped:
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(writer)
            writer.close()
            # Cancelled here too when the server stops: there is nothing left to do but to close.
            with contextlib.suppress(
                ConnectionError, ssl.SSLError, TimeoutError, asyncio.CancelledError
            ):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; True when the connection stays open for another."""
        version = "HTTP/1.1"
        try:
            request = await self._read(reader, writer)
            if request is None:
                return False
            version = request.version
            response = await self._respond(request)
        except _Refused as refused:
            response, request = refused.response, None
        if response is None:
            return False
        keep_alive = request is not None and request.keeps_alive
        if not self.machine.answers:
            raise ConnectionDropped
        writer.write(response.render(version, keep_alive=keep_alive))
        await writer.drain()
        return keep_alive and not response.close

    async def _respond(self, request: Request) -> Response | None:
        serve = HANDLERS.get((request.method, request.path))
        if serve is None:
            if request.method not in _METHODS:
                return not_implemented(request.method)
            return forbidden()
        try:
            if request.path in CALLS:
                return await serve(request)
            return await self._meet_faults(serve, request)
        except (ConnectionError, ConnectionDropped, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("%s %s failed in the lab itself", request.method, request.path)
            return internal_error(repr(error))

    async def _meet_faults(self, serve: Handler, request: Request) -> Response | None:
        """Calls meet theirs by the name of their message (`rpc.call`), all else does here."""
        name, faults = f"{request.method} {request.path}", self.machine.lab.faults
        try:
            await faults.before(name, self.machine.name)
        except XapiError as error:
            return internal_error(error.code)
        try:
            return await serve(request)
        finally:
            faults.after(name, self.machine.name)

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Request | None:
        head = await self._read_head(reader)
        if head is None:
            return None
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/"):
            raise _Refused(internal_error("The HTTP headers could not be parsed."))
        method, target, version = parts
        headers = {}
        for line in lines[1:]:
            name, separator, value = line.partition(":")
            if separator:
                headers[name.strip().lower()] = value.strip()
        path, _, query = target.partition("?")
        request = Request(
            method,
            unquote(path),
            dict(parse_qsl(query, keep_blank_values=True)),
            version if version in ("HTTP/1.0", "HTTP/1.1") else "HTTP/1.1",
            headers,
            self.machine,
            reader,
            writer,
        )
        if method == "POST":
            request.body = await self._read_body(request)
        return request

    async def _read_head(self, reader: asyncio.StreamReader) -> bytes | None:
        head = bytearray()
        async with asyncio.timeout(HEADER_TIMEOUT):
            while not head.endswith(b"\r\n\r\n"):
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.LimitOverrunError:
                    raise _Refused(headers_too_large()) from None
                except asyncio.IncompleteReadError as error:
                    if not head and not error.partial:
                        return None
                    raise
                head += line if line.endswith(b"\r\n") else line[:-1] + b"\r\n"
                if len(head) > LONGEST_HEADERS:
                    raise _Refused(headers_too_large())
        return bytes(head[:-4])

    async def _read_body(self, request: Request) -> bytes:
        text = request.headers.get("content-length")
        if text is None:
            raise _Refused(
                internal_error("Failure(&quot;We require a content-length: HTTP header&quot;)")
            )
        if not text.isdigit():
            raise _Refused(internal_error("Failure(&quot;Int64.of_string&quot;)"))
        if int(text) > LONGEST_BODY:
            raise _Refused(internal_error("Http_svr.Client_requested_size_over_limit"))
        return await request.reader.readexactly(int(text))
