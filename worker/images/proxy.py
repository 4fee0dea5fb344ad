"""The operator's way out: an HTTP proxy that makes tunnels (CONNECT, RFC 9110 section 9.3.6)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Self
from urllib.parse import unquote, urlsplit

import urllib3

from worker.images.reach import Network


@dataclass(frozen=True, slots=True)
class Proxy:
    """Registries with TLS are asked through it; those in plain HTTP are the operator's own, and near."""

    url: str
    """Without credentials: "http://proxy.example:3128"."""
    resolves: bool = False
    """Names are looked up by the proxy: we cannot, or it wants to see them. It then has to keep tenants
    out of private networks, since only addresses can be checked here."""
    direct_names: tuple[str, ...] = ()
    direct_networks: tuple[Network, ...] = ()
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str, *, no_proxy: Iterable[str] = (), resolves: bool = False) -> Self:
        """From settings: "http://name:password@proxy:3128"; NO_PROXY's words as curl reads them.

        Raises ValueError, whose text has no password in it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 3128
        except ValueError:
            raise ValueError("that is no address of a proxy") from None
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("a proxy is http://host:port, or http://name:password@host:port")
        headers = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers = urllib3.make_headers(proxy_basic_auth=pair)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        names, networks = [], []
        for word in no_proxy:
            try:
                networks.append(ip_network(word))
            except ValueError:
                if "/" in word:
                    raise
                names.append(word.lower().lstrip("."))
        return cls(f"http://{host}:{port}", resolves, tuple(names), tuple(networks), headers)

    def is_for(self, host: str, address: str = "") -> bool:
        """Whether `host`, at `address` where that is known, is asked through it."""
        host = host.lower()
        for name in self.direct_names:
            if name == "*" or host == name or host.endswith(f".{name}"):
                return False
        try:
            where = ip_address(address or host)
        except ValueError:
            return True
        return not any(where in network for network in self.direct_networks)
