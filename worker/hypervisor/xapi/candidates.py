"""The hosts of one pool at which its master may be found, with the certificate each must show."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from worker.hypervisor.port import Candidate, CandidatesChanged, PoolConnection
from worker.hypervisor.xapi.transport import Endpoint

log = logging.getLogger(__name__)


class Candidates:
    """Thread-safe. Addresses without a port have the port of the pool's URL."""

    def __init__(
        self, connection: PoolConnection, changed: CandidatesChanged | None = None
    ) -> None:
        if not connection.candidates:
            raise ValueError("a pool is reached only by hosts whose certificate is known")
        self._first = Endpoint.parse(connection.url)
        self._changed = changed
        self._lock = threading.Lock()
        self._all = tuple(connection.candidates)

    def all(self) -> tuple[Candidate, ...]:
        with self._lock:
            return self._all

    def endpoint(self, candidate: Candidate) -> Endpoint:
        return Endpoint.parse(candidate.address, self._first.port)

    def first(self) -> Candidate:
        """The one the pool's URL names, else any."""
        everyone = self.all()
        return next((c for c in everyone if self.endpoint(c) == self._first), everyone[0])

    def find(self, address: str) -> Candidate | None:
        """Whose address that is; a port that is not said matches if only one host fits."""
        wanted = Endpoint.parse(address, self._first.port)
        everyone = self.all()
        exact = [c for c in everyone if self.endpoint(c) == wanted]
        if exact:
            return exact[0]
        near = [c for c in everyone if self.endpoint(c).host == wanted.host]
        return near[0] if len(near) == 1 else None

    def of_host(self, host: UUID) -> Candidate | None:
        return next((c for c in self.all() if c.host == host), None)

    def replace(self, candidates: Iterable[Candidate]) -> None:
        """Take the pool's own list in place of ours, and have it stored if it differs."""
        new = tuple(sorted(candidates, key=lambda c: c.address))
        with self._lock:
            if not new or new == self._all:
                return
            self._all = new
        log.info("candidates replaced: %s", ", ".join(c.address for c in new))
        if self._changed is not None:
            self._changed(new)

    def known(self, host: UUID, address: str) -> Candidate | None:
        """What we hold of that host, at the address the pool now gives for it."""
        by_host = self.of_host(host)
        if by_host is not None:
            # A port or a name we were given outlives the bare address of the pool's database.
            same = self.endpoint(by_host).host == Endpoint.parse(address, 443).host
            return by_host if same else replace(by_host, address=address)
        by_address = self.find(address)
        return replace(by_address, host=host) if by_address is not None else None
