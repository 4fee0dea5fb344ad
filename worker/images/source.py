"""One repository at one place, a registry or a mirror of it: asking, passwords, and its own limits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from worker.images.auth import Authority
from worker.images.deadline import Deadline
from worker.images.errors import ImageUnknown, PullRefused, RegistryBusy, RegistryFailed
from worker.images.gates import LONGEST_HOLD, Gates
from worker.images.http import Fetcher, Origin, Response, origin_of
from worker.images.mirrors import Mirror
from worker.images.proxy import Proxy
from worker.images.reach import Reach
from worker.images.records import Credentials
from worker.images.reference import DOCKER_HUB, Reference

UNTOLD_HOLD: Final = timedelta(seconds=60)
"""How long one is left alone that has had enough and does not say for how long."""
_ENDPOINTS: Final = {DOCKER_HUB: "registry-1.docker.io"}


class Source:
    """For one thread; use it in a `with`."""

    def __init__(
        self,
        origin: Origin,
        repository: str,
        fetcher: Fetcher,
        gates: Gates,
        credentials: Credentials | None = None,
    ) -> None:
        self.host = origin.host
        self._origin = origin
        self._base = f"{origin.scheme}://{origin.authority}/v2/{quote(repository)}"
        self._fetcher = fetcher
        self._gates = gates
        self._authority = Authority(fetcher, repository, credentials)
        self._authorization = ""
        # Registries count by account, and by address who shows none.
        self._account = f"{origin.place} {credentials.username if credentials else ''}"

    @classmethod
    def of_registry(
        cls,
        reference: Reference,
        credentials: Credentials | None,
        reach: Reach,
        proxy: Proxy | None,
        gates: Gates,
    ) -> "Source":
        domain = _ENDPOINTS.get(reference.domain, reference.domain)
        origin, _ = origin_of(f"{reach.scheme_of(reference.domain)}://{domain}")
        return cls(origin, reference.path, Fetcher(reach, proxy, gates), gates, credentials)

    @classmethod
    def of_mirror(
        cls, mirror: Mirror, path: str, reach: Reach, proxy: Proxy | None, gates: Gates
    ) -> "Source":
        """Never with credentials. The operator named it, so it may be anywhere."""
        fetcher = Fetcher(reach.naming(mirror.origin.host, mirror.origin.port), proxy, gates)
        return cls(mirror.origin, mirror.prefix + path, fetcher, gates)

    def close(self) -> None:
        self._fetcher.close()

    @contextmanager
    def ask(
        self,
        path: str,
        deadline: Deadline,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        missing: str = "",
        also: frozenset[int] = frozenset(),
    ) -> Iterator[Response]:
        """A 200, or a status of `also`. `path` is below the repository, e.g. "blobs/sha256:…".

        The first 401 is answered, also when a token has grown old meanwhile. `missing` names what a 404
        is the lack of. Raises ImageError's kinds.
        """
        counted = f"{method} {path.partition('/')[0]} {self._account}"
        self._gates.wait_for(counted, self.host, deadline)
        for is_last in (False, True):
            with self._fetcher.get(
                f"{self._base}/{path}",
                method=method,
                headers=headers,
                authorization=self._authorization,
                deadline=deadline,
            ) as response:
                # Only the registry itself may ask for credentials, not where it leads to.
                if response.status != 401 or response.origin != self._origin or is_last:
                    self._heed(response, counted)
                    if response.status not in also:
                        _check_status(response, missing)
                    yield response
                    return
            self._authorization = self._authority.answer(response, deadline)

    def _heed(self, response: Response, counted: str) -> None:
        """What the registry says of its limits, for all who come after us."""
        if _is_busy(response):
            self._gates.hold(counted, retry_after(response) or UNTOLD_HOLD)
        elif (spent := _until_next(response)) is not None:
            self._gates.hold(counted, spent)


def _check_status(response: Response, missing: str) -> None:
    status, host = response.status, response.origin.host
    if status == 200:
        return
    if status in (401, 403):
        raise PullRefused(host=host, status=status)
    if status in (404, 410):
        public = f"The registry has lost a part of the image: {missing}." if missing else ""
        raise ImageUnknown(public, host=host)
    if _is_busy(response):
        raise RegistryBusy(host=host, retry_after=retry_after(response))
    raise RegistryFailed(host=host, status=status)


def _is_busy(response: Response) -> bool:
    has_wish = bool(response.header("Retry-After"))
    return response.status == 429 or (response.status == 503 and has_wish)


def retry_after(response: Response) -> timedelta | None:
    """Seconds only; the form with a date is rare, and our own pauses do as well."""
    text = response.header("Retry-After")
    if not text.isascii() or not text.isdigit():
        return None
    return min(timedelta(seconds=int(text[:9])), LONGEST_HOLD)


def _until_next(response: Response) -> timedelta | None:
    """Docker Hub's "ratelimit-limit: 100;w=21600" and "ratelimit-remaining: 0;w=21600".

    With nothing remaining, the next pull is free after the window's share of one, on the average.
    """
    limit, window = _share(response.header("RateLimit-Limit"))
    remaining, _ = _share(response.header("RateLimit-Remaining"))
    if remaining != 0 or not limit or not window:
        return None
    return min(timedelta(seconds=window / limit), LONGEST_HOLD)


def _share(text: str) -> tuple[int | None, int | None]:
    """ "100;w=21600": how many in how many seconds. None for what is not told so."""
    count, _, rest = text.partition(";")
    window = rest.strip().removeprefix("w=")
    return _number(count.strip()), _number(window)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
