"""GET and HEAD, guarded: addresses checked, TLS verified, redirects followed without taking credentials along.

urllib3 for the protocol, and no more of it than that: no environment proxies, no netrc, no cookies, no
repetition, no decoding of bodies.
"""

import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProxyError, SSLError
from urllib3.util import Timeout

from worker.images.deadline import Deadline
from worker.images.errors import (
    ProxyFailed,
    RegistryFailed,
    RegistryNotAllowed,
    RegistryNotTrusted,
    RegistryUnreachable,
    TooLarge,
)
from worker.images.gates import Gates
from worker.images.proxy import Proxy
from worker.images.reach import Reach

CHUNK_BYTES: Final = 256 * 1024
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
MOST_REDIRECTS: Final = 5
_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = {301, 302, 303, 307, 308}

# At DEBUG it writes whole addresses; those of redirects are signed, so they are secrets.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who is spoken to. Credentials are for one origin."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As the Host header says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def place(self) -> str:
        """ "host:port": what limits are for."""
        return f"{self.host}:{self.port}"


class Response:
    """An answer whose body has not been read yet. Good until its `with` ends."""

    def __init__(
        self, raw: urllib3.BaseHTTPResponse, origin: Origin, deadline: Deadline, gates: Gates
    ) -> None:
        self._raw = raw
        self._deadline = deadline
        self._gates = gates
        self.origin = origin
        self.status = raw.status

    def header(self, name: str) -> str:
        return self._raw.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """Each line of a header that may come several times."""
        return self._raw.headers.getlist(name)

    def chunks(self) -> Iterator[bytes]:
        """The body, as it arrives. Raises RegistryUnreachable when it breaks off."""
        while True:
            self._deadline.check()
            try:
                chunk = self._raw.read1(CHUNK_BYTES, decode_content=False)
            except (HTTPError, OSError) as error:
                raise RegistryUnreachable(
                    "The registry broke off its answer.", host=self.origin.host
                ) from error
            if not chunk:
                return
            yield chunk
            self._gates.took(self.origin.place, len(chunk), self._deadline)

    def body(self, most: int) -> bytes:
        """All of it, `most` bytes or fewer. Raises TooLarge beyond, as soon as it is beyond."""
        parts, size = [], 0
        for chunk in self.chunks():
            size += len(chunk)
            if size > most:
                raise TooLarge("The registry's answer is too long.", most=most)
            parts.append(chunk)
        return b"".join(parts)


class Fetcher:
    """Keeps connections between requests; close it. For one thread."""

    def __init__(
        self, reach: Reach, proxy: Proxy | None = None, gates: Gates | None = None
    ) -> None:
        self._reach = reach
        self._proxy = proxy
        self._gates = gates or Gates()
        self._tls: ssl.SSLContext | None = None
        self._tunnels: urllib3.ProxyManager | None = None
        self._pools: dict[tuple[Origin, str], urllib3.HTTPConnectionPool] = {}

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        if self._tunnels is not None:
            self._tunnels.clear()

    @contextmanager
    def get(
        self,
        url: str,
        *,
        deadline: Deadline,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        redirects: int = MOST_REDIRECTS,
    ) -> Iterator[Response]:
        """The answer of `url`, redirects followed; any status that is not one is the caller's to read.

        `authorization` is sent to the origin of `url` and to no other.
        Raises RegistryNotAllowed, RegistryNotTrusted, RegistryUnreachable, RegistryFailed, TookTooLong.
        """
        first, parts = origin_of(url)
        origin = first
        for _ in range(redirects + 1):
            own = {"Authorization": authorization} if authorization and origin == first else {}
            with self._gates.request(origin.place, deadline):
                raw = self._send(method, origin, parts, {**(headers or {}), **own}, deadline)
                try:
                    target = _redirection(raw)
                    if target is None:
                        yield Response(raw, origin, deadline, self._gates)
                        return
                finally:
                    raw.close()
            url, origin, parts = _led_to(url, target)
            if first.scheme == "https" and origin.scheme != "https":
                raise RegistryNotAllowed(
                    "The registry leads from TLS to plain HTTP.", host=first.host
                )
        raise RegistryFailed("The registry leads on and on.", host=first.host)

    def _send(
        self,
        method: str,
        origin: Origin,
        parts: SplitResult,
        headers: dict[str, str],
        deadline: Deadline,
    ) -> urllib3.BaseHTTPResponse:
        """Ask each permitted address until one takes the connection."""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            "Host": origin.authority,
            "User-Agent": "Bulkhead",
            "Accept-Encoding": "identity",
            **headers,
        }
        failure: Exception | None = None
        for address in self._addresses(origin, min(CONNECT_SECONDS, deadline.remaining())):
            timeout = Timeout(
                connect=min(CONNECT_SECONDS, deadline.remaining()),
                read=min(READ_SECONDS, deadline.remaining()),
            )
            try:
                return self._pool(origin, address).urlopen(
                    method,
                    target,
                    headers=headers,
                    timeout=timeout,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                    decode_content=False,
                )
            except ProxyError as error:
                raise ProxyFailed(host=origin.host) from error
            except SSLError as error:
                raise RegistryNotTrusted(host=origin.host) from error
            except (HTTPError, OSError) as error:
                failure = error
        raise RegistryUnreachable(host=origin.host) from failure

    def _addresses(self, origin: Origin, wait: float) -> list[str]:
        """To connect to, or to have the proxy connect to."""
        proxy = self._proxy_for(origin)
        if proxy is not None and proxy.resolves:
            self._reach.check_literal(origin.host)
            return [origin.host]
        return self._reach.addresses(origin.host, origin.port, wait)

    def _proxy_for(self, origin: Origin, address: str = "") -> Proxy | None:
        if self._proxy is None or origin.scheme != "https":
            return None
        return self._proxy if self._proxy.is_for(origin.host, address) else None

    def _pool(self, origin: Origin, address: str) -> urllib3.HTTPConnectionPool:
        """To the address that was checked; the certificate has to be the name's."""
        pool = self._pools.get((origin, address))
        if pool is None:
            if origin.scheme == "https":
                self._tls = self._tls or self._reach.tls()
                if proxy := self._proxy_for(origin, address):
                    return self._tunnel(proxy, origin, address, self._tls)
                pool = urllib3.HTTPSConnectionPool(
                    address, origin.port, server_hostname=origin.host, ssl_context=self._tls
                )
            else:
                pool = urllib3.HTTPConnectionPool(address, origin.port)
            self._pools[origin, address] = pool
        return pool

    def _tunnel(
        self, proxy: Proxy, origin: Origin, address: str, tls: ssl.SSLContext
    ) -> urllib3.HTTPConnectionPool:
        """The proxy is told the address, so it cannot be led elsewhere by another look-up."""
        self._tunnels = self._tunnels or urllib3.ProxyManager(
            proxy.url, proxy_headers=proxy.headers, ssl_context=tls
        )
        return self._tunnels.connection_from_host(
            address, origin.port, "https", {"server_hostname": origin.host}
        )


def _redirection(raw: urllib3.BaseHTTPResponse) -> str | None:
    return raw.headers.get("Location") if raw.status in _REDIRECTS else None


def _led_to(url: str, target: str) -> tuple[str, Origin, SplitResult]:
    try:
        url = urljoin(url, target)
    except ValueError as error:
        raise RegistryNotAllowed("The registry leads to what is no address.") from error
    return url, *origin_of(url)


def origin_of(url: str) -> tuple[Origin, SplitResult]:
    """Raises RegistryNotAllowed for what is not http(s), and for a URL with credentials in it."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise RegistryNotAllowed("That is no address of a registry.") from error
    if scheme not in _PORTS or not host or parts.username is not None:
        raise RegistryNotAllowed("That is no address of a registry.")
    return Origin(scheme, host, _PORTS[scheme] if port is None else port), parts
