"""Speaks XML-RPC, JSON-RPC and raw HTTP with a host, and keeps what came over the wire.

XML-RPC values keep their wire types: an int element is an int, a decimal string stays a string,
a dateTime.iso8601 element is {"$dateTime": text}.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0
"""Seconds (real ones) that one request may take."""

Value = Any


@dataclass(frozen=True)
class Reply:
    """A whole HTTP answer. `text` is decoded leniently: what it says is compared, not trusted."""

    status: int
    text: str


@dataclass(frozen=True)
class Answer:
    """An XML-RPC answer: one of the three is set."""

    result: Value = None
    error: list[str] | None = None
    transport: Mapping[str, Any] | None = None

    @property
    def shown(self) -> Any:
        """The answer for a report."""
        if self.error is not None:
            return {"error": self.error}
        if self.transport is not None:
            return {"transport": dict(self.transport)}
        return self.result


class Endpoint:
    """One host's address; connections are opened per client and kept."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.secure = parts.scheme == "https"
        self.port = parts.port or (443 if self.secure else 80)
        self.timeout = timeout
        self._kept: http.client.HTTPConnection | None = None

    def fresh(self) -> Endpoint:
        """The same address with connections of its own, for another thread."""
        scheme = "https" if self.secure else "http"
        return Endpoint(f"{scheme}://{self.host}:{self.port}", self.timeout)

    def post(self, path: str, body: bytes, content_type: str) -> Reply:
        """Send one request. A connection that the server closed meanwhile is opened again.

        Raises OSError or http.client.HTTPException when there is no answer.
        """
        headers = {"Content-Type": content_type, "Host": "x"}
        kept = self._kept
        if kept is not None:
            try:
                return self._exchange(kept, path, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
        self._kept = self._connect()
        return self._exchange(self._kept, path, body, headers)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> Reply:
        try:
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return Reply(response.status, text)

    def _connect(self) -> http.client.HTTPConnection:
        if self.secure:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=self.timeout, context=_unverified()
            )
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def call(self, method: str, args: Sequence[Value]) -> Answer:
        """One XML-RPC call, encoded as Python's own client does.

        Raises OSError or http.client.HTTPException when there is no answer at all.
        """
        body = xmlrpc.client.dumps(
            tuple(to_python(arg) for arg in args), method, allow_none=True
        ).encode()
        return read_answer(self.post("/", body, "text/xml"))

    def ask(self, method: str, args: Sequence[Value]) -> Answer:
        """Send a call; that nobody answers is an answer, too."""
        try:
            return self.call(method, args)
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
            return Answer(transport={"Status": "no answer", "why": why})

    def raw(self, request: bytes, *, patience: float) -> RawResponse:
        """Send bytes over a connection of its own and read until the answer is complete.

        `patience`: real seconds to wait for a server that neither completes nor closes.
        Raises OSError when the host cannot be reached.
        """
        connection: socket.socket = socket.create_connection(
            (self.host, self.port), timeout=self.timeout
        )
        with connection:
            if self.secure:
                connection = _unverified().wrap_socket(connection)
            # An answer may be there all the same: refused before all was sent.
            with contextlib.suppress(OSError):
                connection.sendall(request)
            return _read_raw(connection, self.timeout, patience)


@dataclass(frozen=True)
class RawResponse:
    """What a raw request was answered."""

    status_line: str
    headers: tuple[str, ...]
    body: bytes
    end: str
    """How it ended: "complete", "closed by the server" or "kept open by the server"."""


def _read_raw(connection: socket.socket, timeout: float, patience: float) -> RawResponse:
    received = b""
    deadline = time.monotonic() + timeout
    while b"\r\n\r\n" not in received:
        chunk = _receive(connection, deadline - time.monotonic())
        if not chunk:
            end = "closed by the server" if chunk == b"" else "kept open by the server"
            return _parse_raw(received, b"", end)
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    length = _content_length(head)
    end = "complete"
    while length is None or len(body) < length:
        chunk = _receive(connection, patience if length is None else deadline - time.monotonic())
        if not chunk:
            end = "closed by the server" if chunk == b"" else "kept open by the server"
            break
        body += chunk
    return _parse_raw(head, body if length is None else body[:length], end)


def _receive(connection: socket.socket, timeout: float) -> bytes | None:
    """Some bytes, b"" when the server closed, None when it stayed silent."""
    connection.settimeout(max(timeout, 0.001))
    try:
        return connection.recv(65536)
    except TimeoutError:
        return None
    except OSError:
        return b""


def _content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


def _parse_raw(head: bytes, body: bytes, end: str) -> RawResponse:
    status_line, *headers = head.decode("latin-1").split("\r\n")
    return RawResponse(status_line, tuple(headers), body, end)


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_answer(reply: Reply) -> Answer:
    """Take an XML-RPC answer apart; what is none is kept as it came."""
    if reply.status != 200:
        return Answer(transport={"Status": "HTTP", "Code": reply.status, "Body": reply.text})
    try:
        (content,), _ = xmlrpc.client.loads(reply.text)
    except Exception as error:
        return Answer(transport={"Status": "unreadable", "Body": reply.text, "why": str(error)})
    if not isinstance(content, dict):
        return Answer(transport={"Status": "unreadable", "Body": reply.text})
    if content.get("Status") == "Success":
        return Answer(result=from_python(content.get("Value")))
    return Answer(error=[str(part) for part in content.get("ErrorDescription", ())])


def to_python(value: Value) -> Value:
    if isinstance(value, dict):
        if set(value) == {"$dateTime"}:
            return xmlrpc.client.DateTime(value["$dateTime"])
        return {key: to_python(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_python(part) for part in value]
    return value


def from_python(value: Value) -> Value:
    if isinstance(value, xmlrpc.client.DateTime):
        return {"$dateTime": value.value}
    if isinstance(value, dict):
        return {key: from_python(part) for key, part in value.items()}
    if isinstance(value, list):
        return [from_python(part) for part in value]
    return value


def json_request(version: int, method: str, args: Sequence[Value]) -> str:
    head: dict[str, Value] = {"jsonrpc": "2.0"} if version == 2 else {}
    return json.dumps({**head, "method": method, "params": list(args), "id": 1})
