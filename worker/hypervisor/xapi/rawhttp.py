"""XAPI's HTTP handlers (import, export, metrics, consoles): one connection per request.

They answer before they read a body, say 302 to another host when they cannot reach the storage, and end
by closing, so an ordinary HTTP client does not fit. Headers stay minimal: xapi takes 1024 bytes of them.
A redirect is followed only to a host of the pool whose certificate we hold.
"""

import ssl
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import urlencode, urlsplit

from worker.hypervisor.port import Candidate, Refused, Unreachable
from worker.hypervisor.xapi.errors import translate_transport
from worker.hypervisor.xapi.session import PoolSession
from worker.hypervisor.xapi.transport import (
    DeadlineSocket,
    PinnedConnection,
    TransportError,
    failed,
)

MAX_HEADER_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 256 * 1024
_REDIRECTS: Final = 2


class Exchange:
    """A request whose answer's head has been read; the rest is raw bytes both ways."""

    def __init__(self, sock: DeadlineSocket, head: bytes, rest: bytes) -> None:
        self._sock = sock
        self._rest = rest
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        pairs = (line.partition(":") for line in lines[1:])
        self.headers: Mapping[str, str] = {k.strip().lower(): v.strip() for k, _, v in pairs}
        length = self.headers.get("content-length", "")
        self._left = int(length) if length.isdecimal() else None

    def recv(self, size: int = CHUNK_BYTES, /) -> bytes:
        """What has come; nothing at the end, said by a length or by closing."""
        if self._left is not None:
            size = min(size, self._left)
            if size == 0:
                return b""
        if self._rest:
            piece, self._rest = self._rest[:size], self._rest[size:]
        else:
            piece = self._sock.recv(size)
        if self._left is not None:
            self._left -= len(piece)
        return piece

    def recv_nowait(self, size: int = CHUNK_BYTES, /) -> bytes | None:
        """What has come; None when nothing has, nothing at the end. For a stream that is `unlimited`."""
        self._sock.setblocking(False)
        try:
            return self.recv(size)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        finally:
            self._sock.setblocking(True)

    def sendall(self, data: bytes | bytearray, /) -> None:
        self._sock.sendall(data)

    def send_nowait(self, data: bytes, /) -> int:
        """How much of it could be sent at once. For a stream that is `unlimited`."""
        self._sock.setblocking(False)
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return 0
        finally:
            self._sock.setblocking(True)

    def fileno(self) -> int:
        return self._sock.fileno()

    def allow(self, seconds: float) -> None:
        """Each read and each write from now on may take that long."""
        self._sock.deadline = None
        self._sock.settimeout(seconds)

    def unlimited(self) -> None:
        self._sock.deadline = None
        self._sock.settimeout(None)

    def read_all(self, limit: int) -> bytes:
        body = bytearray()
        while piece := self.recv():
            body += piece
            if len(body) > limit:
                raise TransportError("answer_too_long", sent=True)
        return bytes(body)

    def close(self) -> None:
        self._sock.close()


def open_exchange(
    session: PoolSession,
    host: Candidate,
    method: str,
    path: str,
    query: Mapping[str, str],
    seconds: float,
) -> Exchange:
    """Send a request without a body and read the head of its answer. Raises Unreachable, Refused.

    The session goes in the query. Every step until the head is read is bound by `seconds`.
    """
    target = f"{path}?{urlencode({'session_id': session.reference(), **query})}"
    for _ in range(_REDIRECTS):
        try:
            exchange = _request(session, host, method, target, seconds)
        except TransportError as error:
            raise translate_transport(error) from error
        if exchange.status == 200:
            return exchange
        exchange.close()
        if exchange.status != 302:
            raise _refusal(exchange.status)
        host, target = _redirected(session, exchange.headers.get("location", ""))
    raise Unreachable("redirected")


def _request(
    session: PoolSession, host: Candidate, method: str, target: str, seconds: float
) -> Exchange:
    endpoint = session.candidates.endpoint(host)
    connection = PinnedConnection(endpoint, host.certificate)
    connection.ready(seconds)
    sock = cast(DeadlineSocket, connection.sock)
    try:
        sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: {endpoint.netloc}\r\n\r\n".encode())
        head, rest = _read_head(sock)
        return Exchange(sock, head, rest)
    except Exception as error:
        sock.close()
        raise failed(error, sent=True) from error


def _read_head(sock: DeadlineSocket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = sock.recv(4096)
        if not piece or len(received) > MAX_HEADER_BYTES:
            raise TransportError("connection_lost" if not piece else "protocol", sent=True)
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _redirected(session: PoolSession, location: str) -> tuple[Candidate, str]:
    parts = urlsplit(location)
    try:
        host = session.candidates.find(parts.netloc)
    except ValueError:
        host = None
    if host is None:
        raise Unreachable("redirected")
    return host, f"{parts.path}?{parts.query}"


def _refusal(status: int) -> Unreachable | Refused:
    if status in (401, 403):
        return Unreachable("session_lost")
    if status in (400, 404):
        return Refused("bad_request")
    return Unreachable(f"http_{status}", may_have_happened=True)
