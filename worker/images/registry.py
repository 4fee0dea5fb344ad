"""One repository: which image a name means, and the bytes of its layers.

OCI distribution specification 1.1, Docker Registry HTTP API v2. Every byte is held against its digest
before anything reads it.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, Final, NamedTuple, Self

from worker.images.cache import BlobCache
from worker.images.deadline import Deadline
from worker.images.download import download
from worker.images.errors import (
    DigestMismatch,
    ImageError,
    ImageMalformed,
    RegistryFailed,
    RegistryUnreachable,
    TookTooLong,
    TooLarge,
)
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
from worker.images.reference import Reference, is_digest
from worker.images.source import Source
from worker.images.spool import private_folder
from worker.images.ways import Ways

LARGEST_MANIFEST: Final = 4 * MIB
"""What the distribution specification asks registries to take."""
LARGEST_CONFIG: Final = 4 * MIB
DEEPEST_INDEX: Final = 3
_NO_HEAD: Final = frozenset({400, 405, 501})
"""Of a registry that does not know HEAD: then only the whole manifest tells."""
_log = logging.getLogger(__name__)


class Repository:
    """Gets what one reference names. For one thread; use it in a `with`.

    The registry says what a tag means and who may read, with the tenant's credentials; mirrors and cache only
    spare it the sending. Where the operator lets mirrors stand in, they say both.
    """

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None,
        reach: Reach,
        limits: Limits,
        ways: Ways | None = None,
    ) -> None:
        ways = ways or Ways()
        self._reference = reference
        self._limits = limits
        self._pause = ways.pause
        self._cache = ways.cache
        self._deadline = Deadline(limits.duration)
        self._registry = Source.of_registry(reference, credentials, reach, ways.proxy, ways.gates)
        self._mirrors = [
            Source.of_mirror(mirror, reference.path, reach, ways.proxy, ways.gates)
            for mirror in ways.mirrors.of(reference.domain)
        ]
        self._stand_ins = list(self._mirrors) if ways.mirrors.stand_in_for(reference.domain) else []
        kept = (ways.gates.folder, ways.cache.folder if ways.cache else None)
        self._folders = [folder for folder in kept if folder]
        self._is_let_in = False
        # Places in the cache's sense: this repository, and its registry.
        self._here = f"{reference.domain.lower()}/{reference.path}"
        self._registry_wide = reference.domain.lower()

    def __enter__(self) -> Self:
        """Raises PermissionError when others could write what we keep here."""
        for folder in self._folders:
            private_folder(folder)
        return self

    def __exit__(self, *_: object) -> None:
        for source in (self._registry, *self._mirrors):
            source.close()

    # ------------------------------------------------------------------------------------------ asking

    def resolve(self, platform: Platform) -> Resolved:
        """The image for `platform`, pinned. Raises ImageError's kinds."""
        body, content_type = self._manifest(self._reference.wanted)
        document = read_json(body)
        for _ in range(DEEPEST_INDEX):
            if kind_of(document, content_type) not in INDEXES:
                break
            entry = choose(document, platform)
            body, content_type = self._manifest(entry.digest, entry.media_type)
            _check_size(entry, len(body))
            document = read_json(body)
        else:
            raise ImageMalformed("The image's index leads to indexes only.")
        digest = digest_of(body, self._reference.digest)
        config, blobs = read_manifest(document, self._limits)
        run, layers = read_config(self._config(config), blobs, platform)
        return Resolved(self._reference.pinned(digest), digest, run, layers)

    def pull(self, blob: Descriptor, into: BinaryIO) -> None:
        """Write a blob's bytes, checked, from where `into` stands; it can be sought and read.

        On any error `into` holds bytes that nobody has vouched for.
        Raises DigestMismatch, and ImageError's other kinds.
        """
        self._blob(blob, into, missing="a layer")

    # ----------------------------------------------------------------------------------------- manifests

    def _manifest(self, wanted: str, kind: str = "") -> tuple[bytes, str]:
        """A manifest's bytes and content type, by tag or digest. `kind` is what its index calls it."""
        if self._mirrors or self._cache:
            told = _Told(wanted, kind) if self._is_let_in and kind else self._let_in(wanted)
            if told.digest and (found := self._spared(told.digest, told.kind)):
                return found
            wanted = told.digest or wanted
        found = self._manifest_of(self._registry, wanted)
        self._is_let_in = True
        self._keep(found[0], wanted)
        return found

    def _spared(self, digest: str, kind: str) -> tuple[bytes, str] | None:
        """A manifest that the registry need not send."""
        body = BytesIO()
        cache = self._cache
        if cache and kind and cache.came_from(digest, self._here) and cache.copy(digest, body):
            return body.getvalue(), kind
        for mirror in list(self._mirrors):
            with self._or_next(mirror):
                found = self._manifest_of(mirror, digest)
                self._keep(found[0], digest)
                return found
        return None

    def _keep(self, body: bytes, digest: str) -> None:
        if self._cache and is_digest(digest):
            self._cache.put(digest, BytesIO(body), len(body), self._places)

    def _let_in(self, wanted: str) -> "_Told":
        """Ask who may say whether we may read `wanted`. Raises PullRefused, ImageUnknown."""
        for mirror in [one for one in self._mirrors if one in self._stand_ins]:
            with self._or_next(mirror):
                return self._head_of(mirror, wanted)
        return self._head_of(self._registry, wanted)

    def _head_of(self, source: Source, wanted: str) -> "_Told":
        with source.ask(
            f"manifests/{wanted}",
            self._deadline,
            method="HEAD",
            headers={"Accept": ACCEPT},
            also=_NO_HEAD,
        ) as response:
            if response.status in _NO_HEAD:
                return _Told("", "")
            told = response.header("Docker-Content-Digest")
            kind = response.header("Content-Type")
        self._is_let_in = True
        digest = wanted if is_digest(wanted) else told
        return _Told(digest if is_digest(digest) else "", kind)

    def _manifest_of(self, source: Source, wanted: str) -> tuple[bytes, str]:
        with source.ask(
            f"manifests/{wanted}", self._deadline, headers={"Accept": ACCEPT}
        ) as response:
            body = response.body(LARGEST_MANIFEST)
            told = wanted if is_digest(wanted) else response.header("Docker-Content-Digest")
            if told and not is_digest(told):
                raise RegistryFailed("The registry names a digest that is none.")
            if told:
                _check_digest(told, _hash(told, body).hexdigest())
            return body, response.header("Content-Type")

    # --------------------------------------------------------------------------------------------- blobs

    def _config(self, blob: Descriptor) -> dict[str, object]:
        if blob.size > LARGEST_CONFIG:
            raise TooLarge("The image's configuration is too long.", most=LARGEST_CONFIG)
        body = BytesIO()
        self._blob(blob, body, missing="its configuration")
        return read_json(body.getvalue())

    def _blob(self, blob: Descriptor, into: BinaryIO, missing: str) -> None:
        cache = self._cache
        if cache is None:
            return self._download(blob, into, missing)
        if not self._is_let_in:
            self._let_in(self._reference.wanted)
        if not self._is_let_in:  # nobody can say
            return self._download(blob, into, missing)
        with cache.alone_at(blob.digest, self._registry_wide, self._deadline):
            start = into.tell()
            if self._may_have(cache, blob) and cache.copy(blob.digest, into):
                cache.note(blob.digest, self._places)
                return _check_size(blob, into.tell() - start)
            self._download(blob, into, missing)
            into.seek(start)
            cache.put(blob.digest, into, blob.size, self._places)
            into.seek(start + blob.size)

    @property
    def _places(self) -> list[str]:
        return [self._here, self._registry_wide]

    def _may_have(self, cache: BlobCache, blob: Descriptor) -> bool:
        """Whether a cached blob is what we would be given.

        It came from this repository, where we were let in; or from the same registry, which says that this
        repository has it. That somebody's registry names a digest says nothing: it may not have the bytes.
        """
        if cache.came_from(blob.digest, self._here):
            return True
        if self._stand_ins or not cache.came_from(blob.digest, self._registry_wide):
            return False
        try:
            with self._registry.ask(f"blobs/{blob.digest}", self._deadline, method="HEAD"):
                return True
        except TookTooLong:
            raise
        except ImageError:
            return False  # then it is pulled, or refused, as if it were not here

    def _download(self, blob: Descriptor, into: BinaryIO, missing: str) -> None:
        start = into.tell()
        if self._mirrors and not self._is_let_in:
            self._let_in(self._reference.wanted)
        for source in [*(self._mirrors if self._is_let_in else []), self._registry]:
            into.seek(start)
            into.truncate()
            with self._or_next(source):
                return download(
                    source, blob, into, self._deadline, missing=missing, pause=self._pause
                )

    # ------------------------------------------------------------------------------------------- mirrors

    @contextmanager
    def _or_next(self, source: Source) -> Iterator[None]:
        """What a mirror does wrong is no more than a reason to ask the next; the registry's own is final."""
        try:
            yield
        except TookTooLong:
            raise
        except ImageError as error:
            if source is self._registry:
                raise
            _log.info("A mirror was passed over: %s: %s", source.host, error.code)
            if isinstance(error, RegistryUnreachable):
                self._mirrors.remove(source)


class _Told(NamedTuple):
    """What a HEAD tells of a manifest; empty where it does not."""

    digest: str
    kind: str


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
