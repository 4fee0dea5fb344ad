"""One repository at one registry: which image a name means, and the bytes of its layers.

OCI distribution specification 1.1, Docker Registry HTTP API v2. Every byte is held against its digest
before anything reads it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import BinaryIO, Final, Self
from urllib.parse import quote

from worker.images.auth import Authority
from worker.images.deadline import Deadline
from worker.images.errors import (
    DigestMismatch,
    ImageMalformed,
    ImageUnknown,
    PullRefused,
    RegistryBusy,
    RegistryFailed,
)
from worker.images.http import Fetcher, Response, origin_of
from worker.images.manifests import (
    ACCEPT,
    INDEXES,
    choose,
    kind_of,
    read_config,
    read_json,
    read_manifest,
)
from worker.images.reach import Reach
from worker.images.records import MIB, Credentials, Descriptor, Limits, Platform, Resolved
from worker.images.reference import DOCKER_HUB, Reference, is_digest

LARGEST_MANIFEST: Final = 4 * MIB
"""What the distribution specification asks registries to take."""
LARGEST_CONFIG: Final = 4 * MIB
DEEPEST_INDEX: Final = 3
LONGEST_WAIT: Final = timedelta(hours=1)
_ENDPOINTS: Final = {DOCKER_HUB: "registry-1.docker.io"}


class Repository:
    """Speaks to the registry of one reference. For one thread; use it in a `with`."""

    def __init__(
        self, reference: Reference, credentials: Credentials | None, reach: Reach, limits: Limits
    ) -> None:
        self._reference = reference
        self._limits = limits
        self._fetcher = Fetcher(reach)
        self._authority = Authority(self._fetcher, reference.path, credentials)
        self._authorization = ""
        self._deadline = Deadline(limits.duration)
        domain = _ENDPOINTS.get(reference.domain, reference.domain)
        path = quote(reference.path)
        self._base = f"{reach.scheme_of(reference.domain)}://{domain}/v2/{path}"
        self._origin, _ = origin_of(self._base)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._fetcher.close()

    # ------------------------------------------------------------------------------------------ asking

    def resolve(self, platform: Platform) -> Resolved:
        """The image for `platform`, pinned. Raises ImageError's kinds."""
        body, content_type = self._manifest(self._reference.wanted)
        document = read_json(body)
        for _ in range(DEEPEST_INDEX):
            if kind_of(document, content_type) not in INDEXES:
                break
            entry = choose(document, platform)
            body, content_type = self._manifest(entry.digest)
            _check_size(entry, len(body))
            document = read_json(body)
        else:
            raise ImageMalformed("The image's index leads to indexes only.")
        digest = digest_of(body, self._reference.digest)
        config, blobs = read_manifest(document, self._limits)
        run, layers = read_config(self._config(config), blobs, platform)
        return Resolved(self._reference.pinned(digest), digest, run, layers)

    def pull(self, blob: Descriptor, into: BinaryIO) -> None:
        """Write a blob's bytes, checked. Raises DigestMismatch, and ImageError's other kinds.

        On any error `into` holds bytes that nobody has vouched for.
        """
        check, size = _hash(blob.digest), 0
        with self._get(f"blobs/{blob.digest}", missing="a layer") as response:
            for chunk in response.chunks():
                size += len(chunk)
                if size > blob.size:
                    raise DigestMismatch(digest=blob.digest, size=size)
                check.update(chunk)
                into.write(chunk)
        _check_size(blob, size)
        _check_digest(blob.digest, check.hexdigest())

    # ----------------------------------------------------------------------------------------- fetching

    def _manifest(self, wanted: str) -> tuple[bytes, str]:
        """A manifest's bytes and content type, by tag or digest."""
        with self._get(f"manifests/{wanted}", accept=ACCEPT) as response:
            body = response.body(LARGEST_MANIFEST)
            told = wanted if is_digest(wanted) else response.header("Docker-Content-Digest")
            if told and not is_digest(told):
                raise RegistryFailed("The registry names a digest that is none.")
            if told:
                _check_digest(told, _hash(told, body).hexdigest())
            return body, response.header("Content-Type")

    def _config(self, blob: Descriptor) -> dict[str, object]:
        with self._get(f"blobs/{blob.digest}", missing="its configuration") as response:
            body = response.body(LARGEST_CONFIG)
        _check_size(blob, len(body))
        _check_digest(blob.digest, _hash(blob.digest, body).hexdigest())
        return read_json(body)

    @contextmanager
    def _get(self, path: str, *, accept: str = "*/*", missing: str = "") -> Iterator[Response]:
        """A 200. The first 401 is answered, also when a token has grown old meanwhile."""
        url = f"{self._base}/{path}"
        for is_last in (False, True):
            with self._fetcher.get(
                url,
                headers={"Accept": accept},
                authorization=self._authorization,
                deadline=self._deadline,
            ) as response:
                # Only the registry itself may ask for credentials, not where it leads to.
                is_registry = response.origin == self._origin
                if response.status == 401 and is_registry and not is_last:
                    self._authorization = self._authority.answer(response, self._deadline)
                    continue
                _check_status(response, missing)
                yield response
                return


def digest_of(body: bytes, like: str | None) -> str:
    """sha256, unless the reference itself was pinned to these bytes by another algorithm."""
    if like and like.partition(":")[2] == _hash(like, body).hexdigest():
        return like
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _hash(digest: str, body: bytes = b"") -> "hashlib._Hash":
    return hashlib.new(digest.partition(":")[0], body, usedforsecurity=True)


def _check_digest(digest: str, found: str) -> None:
    if digest.partition(":")[2] != found:
        raise DigestMismatch(digest=digest, found=found)


def _check_size(blob: Descriptor, size: int) -> None:
    if size != blob.size:
        raise DigestMismatch(digest=blob.digest, size=size)


def _check_status(response: Response, missing: str) -> None:
    status, host = response.status, response.origin.host
    if status == 200:
        return
    if status in (401, 403):
        raise PullRefused(host=host, status=status)
    if status in (404, 410):
        public = f"The registry has lost a part of the image: {missing}." if missing else ""
        raise ImageUnknown(public, host=host)
    if status == 429 or (status == 503 and response.header("Retry-After")):
        raise RegistryBusy(host=host, retry_after=_retry_after(response))
    raise RegistryFailed(host=host, status=status)


def _retry_after(response: Response) -> timedelta | None:
    """Seconds only; the form with a date is rare, and our own pauses do as well."""
    text = response.header("Retry-After")
    if not text.isascii() or not text.isdigit():
        return None
    return min(timedelta(seconds=int(text[:9])), LONGEST_WAIT)
