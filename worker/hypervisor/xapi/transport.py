"""Connections to one host's XAPI: pinned certificate, a deadline for every call, never a second send.

The official binding's own transport sends a request again when the connection drops, checks no
certificate that is self-signed, and waits for ever; none of that is acceptable for calls that start
and stop machines. XML-RPC goes through the official `XenAPI` package over `PinnedTransport`; bulk reads
and `event.from` go over JSON-RPC, which is some twenty times cheaper to parse.

Whether a failed call may have reached the server is the one thing the caller must know: see
`TransportError.sent`.
"""

import functools
import http.client
import json
import select
import ssl
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import XenAPI

MAX_REQUEST_BYTES = 300 * 1024
"""xapi refuses longer RPC bodies (xapi_http.ml)."""

MAX_IDLE_SECONDS = 30.0
"""A kept connection older than this is not trusted with a call that must not be sent twice."""


class TransportError(Exception):
    """The call got no answer of XAPI. `sent`: it may have reached the server and been executed."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(f"{reason}, {'sent' if sent else 'not sent'}")
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a host's API listens. `host` is bare, also for IPv6."""

    host: str
    port: int

    @classmethod
    def parse(cls, address: str, default_port: int = 443) -> "Endpoint":
        """Of "name", "10.0.0.1:443", "fd00::1", "[fd00::1]:443" or an https URL.

        Raises ValueError for anything else, http:// included: passwords are sent over it.
        """
        if "://" in address:
            parts = urlsplit(address)
            if parts.scheme != "https":
                raise ValueError("a pool's URL begins with https://")
            address = parts.netloc
        if address.count(":") > 1 and not address.startswith("["):
            return cls(address, default_port)
        parts = urlsplit(f"//{address}")
        if not parts.hostname or parts.username is not None:
            raise ValueError(f"not an address of a host: {address!r}")
        return cls(parts.hostname, parts.port or default_port)

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.netloc


class DeadlineSocket(ssl.SSLSocket):
    """A socket that gives up at a moment, not after a silence: a server that drips is slow too."""

    deadline: float | None = None

    def _arm(self) -> None:
        if self.deadline is None:
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed")
        self.settimeout(left)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        self._arm()
        return super().recv(buflen, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self._arm()
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._arm()
        return super().send(data, flags)


@functools.lru_cache(maxsize=256)
def pinned_context(certificate: str) -> ssl.SSLContext:
    """Trust exactly the given PEM certificate(s), whatever name they carry."""
    context = ssl.create_default_context(cadata=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a host's own certificate is the anchor
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # XAPI's self-signed ones lack key identifiers
    context.check_hostname = False  # addresses change, certificates name what they like
    context.sslsocket_class = DeadlineSocket
    return context


class PinnedConnection(http.client.HTTPSConnection):
    """One kept-alive connection, used by one thread."""

    def __init__(self, endpoint: Endpoint, certificate: str) -> None:
        """Raises TransportError when what is pinned is no certificate."""
        try:
            context = pinned_context(certificate)
        except ssl.SSLError as error:
            raise TransportError("certificate", sent=False) from error
        super().__init__(endpoint.host, endpoint.port, context=context)
        self._last_used = 0.0

    def ready(self, timeout: float) -> None:
        """Be connected, with everything until the answer's end bound by `timeout` seconds.

        Raises TransportError (not sent).
        """
        if self.sock is not None and self._is_stale():
            self.close()
        if self.sock is None:
            self.timeout = timeout
            self._connect()
        self._last_used = time.monotonic()
        cast(DeadlineSocket, self.sock).deadline = self._last_used + timeout

    def _connect(self) -> None:
        try:
            self.connect()
        except Exception as error:
            self.close()
            raise failed(error, sent=False) from error

    def _is_stale(self) -> bool:
        if time.monotonic() - self._last_used > MAX_IDLE_SECONDS:
            return True
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(0))  # nothing is owed to us: readable means closed


def failed(error: Exception, *, sent: bool) -> TransportError:
    """What a socket, TLS or HTTP error means for the call."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportError("certificate", sent=False)
    if isinstance(error, TimeoutError):
        return TransportError("timeout", sent=sent)
    if isinstance(error, OSError | http.client.HTTPException):
        return TransportError("connection_lost" if sent else "no_connection", sent=sent)
    return TransportError("protocol", sent=sent)


class PinnedTransport(xmlrpc.client.SafeTransport):
    """The transport under the official binding's `XenAPI.Session`."""

    def __init__(self, endpoint: Endpoint, certificate: str) -> None:
        super().__init__()
        self.timeout = 20.0
        self._pinned = PinnedConnection(endpoint, certificate)

    def make_connection(self, host: Any) -> http.client.HTTPSConnection:
        return self._pinned

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        """Send once. The parent class would send again after a dropped connection."""
        if len(request_body) > MAX_REQUEST_BYTES:
            raise ValueError("the call is longer than XAPI takes")
        self._pinned.ready(self.timeout)
        try:
            return self.single_request(host, handler, request_body, verbose)
        except Exception as error:
            self.close()
            raise failed(error, sent=True) from error

    def close(self) -> None:
        self._pinned.close()


class JsonRpc:
    """POST /jsonrpc, version 2.0. Same sessions, same errors as XML-RPC."""

    def __init__(self, endpoint: Endpoint, certificate: str) -> None:
        self._connection = PinnedConnection(endpoint, certificate)

    def call(self, method: str, params: Sequence[object], timeout: float) -> Any:
        """Raises TransportError and XenAPI.Failure."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        payload = body.encode()
        if len(payload) > MAX_REQUEST_BYTES:
            raise ValueError("the call is longer than XAPI takes")
        self._connection.ready(timeout)
        try:
            reply = self._exchange(payload)
        except Exception as error:
            self._connection.close()
            raise failed(error, sent=True) from error
        return _value_of(reply)

    def _exchange(self, payload: bytes) -> dict[str, Any]:
        self._connection.request("POST", "/jsonrpc", payload, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        text = response.read()
        if response.status != http.client.OK:
            raise TransportError(f"http_{response.status}", sent=True)
        reply = json.loads(text)
        if not isinstance(reply, dict):
            raise TransportError("protocol", sent=True)
        return reply

    def close(self) -> None:
        self._connection.close()


def _value_of(reply: dict[str, Any]) -> Any:
    error = reply.get("error")
    if error is None:
        return reply.get("result")
    if isinstance(error, dict):
        raise XenAPI.Failure([error.get("message", ""), *error.get("data", [])])
    raise XenAPI.Failure(list(error))


class Channel:
    """Both protocols to one host, for one thread."""

    def __init__(self, endpoint: Endpoint, certificate: str) -> None:
        self._transport = PinnedTransport(endpoint, certificate)
        self._proxy = XenAPI.Session(f"https://{endpoint.netloc}", transport=self._transport)
        self._json = JsonRpc(endpoint, certificate)

    def xml(self, method: str, params: Sequence[object], timeout: float) -> Any:
        """One call through the official binding, without its silent re-login.

        Integers travel as text on XML-RPC: give them as str. Raises TransportError, XenAPI.Failure.
        """
        self._transport.timeout = timeout
        try:
            reply = getattr(self._proxy, method)(*params)
        except xmlrpc.client.Error as error:
            raise failed(error, sent=True) from error
        if not isinstance(reply, dict) or "Status" not in reply:
            raise TransportError("protocol", sent=True)
        if reply["Status"] == "Success":
            return reply.get("Value")
        raise XenAPI.Failure(reply.get("ErrorDescription") or [""])

    def json(self, method: str, params: Sequence[object], timeout: float) -> Any:
        return self._json.call(method, params, timeout)

    def close(self) -> None:
        self._transport.close()
        self._json.close()

    def __del__(self) -> None:
        # Channels are kept per thread and end with it; their sockets must not outlive them.
        if hasattr(self, "_json"):
            self.close()
