"""Where requests of tenants may lead: never into the operator's own networks, unless a range is allowed.

A tenant names the registry, the registry names token servers and redirects: all hostile. A name is looked
up once, its addresses are checked, and the connection goes to a checked address, so that a second look-up
(DNS rebinding) cannot lead elsewhere.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from queue import Empty, SimpleQueue
from typing import Final, Self

from worker.images.errors import RegistryNotAllowed, RegistryUnreachable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], list[str]]
"""From host and port to addresses; raises OSError."""

_LOCAL_NAMES: Final = frozenset({"localhost", "local", "internal", "localdomain", "lan", "home"})
# IPv4 in the clothes of IPv6: what a gateway would turn it into is what counts.
_NAT64: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True)
class Reach:
    """The operator's rules for outgoing requests."""

    allowed: tuple[Network, ...] = ()
    """Ranges that may be reached although they are not public."""
    plain_http: frozenset[str] = frozenset()
    """Registries, "host" or "host:port", that are spoken to without TLS."""
    ca_file: str | None = None
    """Certificates trusted instead of the system's, PEM."""
    named: frozenset[tuple[str, int]] = frozenset()
    """Host and port of what the operator has named himself, wherever it is."""
    lookup: Lookup = field(default=lambda host, port: _look_up(host, port), repr=False)

    @classmethod
    def parse(
        cls,
        *,
        allowed: Iterable[str] = (),
        plain_http: Iterable[str] = (),
        ca_file: str | None = None,
    ) -> Self:
        """From settings: "10.0.0.0/8", "registry.lab:5000". Raises ValueError."""
        networks = tuple(ip_network(one) for one in allowed)
        return cls(networks, frozenset(one.lower() for one in plain_http), ca_file or None)

    def scheme_of(self, domain: str) -> str:
        """How the registry of this name ("host" or "host:port") is spoken to."""
        host = domain.rpartition(":")[0] or domain
        is_plain = domain.lower() in self.plain_http or host.lower() in self.plain_http
        return "http" if is_plain else "https"

    def addresses(self, host: str, port: int, timeout: float) -> list[str]:
        """The addresses of `host` that may be reached, in the resolver's order.

        `timeout` is in seconds. Raises RegistryNotAllowed when there are only others, and
        RegistryUnreachable when there are none.
        """
        found = _in_time(lambda: self.lookup(host, port), timeout, host)
        is_named = (host, port) in self.named
        permitted = [one for one in found if is_named or self._permits(one)]
        if not permitted:
            raise RegistryNotAllowed(host=host)
        return permitted

    def check_literal(self, host: str) -> None:
        """For a host that somebody else looks up. Raises RegistryNotAllowed for an address, and for a
        name that stands for one here, unless it may be reached; of other names nothing is known.
        """
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            # What inet_aton takes is an address too, and in many spellings: 127.1, 0x7f000001.
            last = host.lower().rstrip(".").rpartition(".")[2]
            if not last or last in _LOCAL_NAMES or last.isdigit() or last.startswith("0x"):
                raise RegistryNotAllowed(host=host) from None
        else:
            if not self._permits(host):
                raise RegistryNotAllowed(host=host)

    def naming(self, host: str, port: int) -> "Reach":
        """The same rules, but for one place that the operator has named."""
        return replace(self, named=self.named | {(host, port)})

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def _permits(self, text: str) -> bool:
        if "%" in text:  # with a zone: link-local by nature
            return False
        address = unwrapped(ip_address(text))
        if any(address in network for network in self.allowed):
            return True
        return address.is_global and not address.is_multicast


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 address that only carries one (mapped, NAT64, 6to4, Teredo)."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if any(address in network for network in _NAT64) or int(address) >> 32 == 0:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _look_up(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def _in_time(ask: Callable[[], list[str]], timeout: float, host: str) -> list[str]:
    """getaddrinfo knows no timeout, so a thread asks; a late answer finds nobody waiting."""
    answers: SimpleQueue[list[str] | OSError | UnicodeError] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA cannot write
            answers.put(error)

    threading.Thread(target=run, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise RegistryUnreachable(host=host) from None
    if isinstance(answer, Exception):
        raise RegistryUnreachable(host=host) from answer
    return answer
