"""A blob's bytes, checked; a transfer that breaks off goes on where it broke (RFC 9110, section 14)."""

import hashlib
import re
from collections.abc import Callable
from typing import BinaryIO, Final

from worker.images.deadline import Deadline
from worker.images.errors import (
    DigestMismatch,
    ImageUnavailable,
    RegistryBusy,
    RegistryFailed,
    RegistryUnreachable,
    TookTooLong,
)
from worker.images.gates import PATIENCE
from worker.images.http import Response
from worker.images.records import Descriptor
from worker.images.source import Source

MOST_TRIES: Final = 6
_FIRST_PAUSE: Final = 0.25
_RANGE_ANSWERS: Final = frozenset({206, 416})
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/(?:[0-9]{1,19}|\*)")


def download(
    source: Source,
    blob: Descriptor,
    into: BinaryIO,
    deadline: Deadline,
    *,
    missing: str,
    pause: Callable[[float], None],
) -> None:
    """Write the blob from where `into` stands, which can be sought. Raises ImageError's kinds.

    On any error `into` holds bytes that nobody has vouched for. Once bytes have come, a break is met with
    another try, MOST_TRIES in all; what never began is the caller's to try again. Bytes put together from
    several answers that do not match the digest are thrown away, and the next try begins at none.
    """
    part = _Part(blob, into)
    failure: ImageUnavailable = RegistryUnreachable("The registry broke off its answer.")
    for attempt in range(MOST_TRIES):
        if attempt:
            pause(min(_pause_after(failure, attempt), deadline.remaining()))
        try:
            part.go_on(source, deadline, missing)
            if part.size == blob.size:
                return part.check()
            failure = RegistryUnreachable("The registry broke off its answer.", host=source.host)
        except TookTooLong:
            raise
        except ImageUnavailable as error:
            if not part.has_begun or _pause_after(error, 1) > PATIENCE.total_seconds():
                raise
            failure = error
        except DigestMismatch:
            if not part.is_pieced:
                raise
            part.begin_again()
    raise failure


def _pause_after(failure: ImageUnavailable, attempt: int) -> float:
    if isinstance(failure, RegistryBusy):
        wish = failure.retry_after
        return wish.total_seconds() if wish else 2 * PATIENCE.total_seconds()
    return float(_FIRST_PAUSE * 2 ** (attempt - 1))


class _Part:
    """What has come so far."""

    def __init__(self, blob: Descriptor, into: BinaryIO) -> None:
        self._blob = blob
        self._into = into
        self._start = into.tell()
        self.has_begun = False
        self.begin_again()

    def begin_again(self) -> None:
        self._into.seek(self._start)
        self._into.truncate()
        self._check = hashlib.new(self._blob.digest.partition(":")[0])
        self._tag = ""
        self.size = 0
        self.is_pieced = False

    def go_on(self, source: Source, deadline: Deadline, missing: str) -> None:
        """Until the answer ends. Raises RegistryUnreachable when it breaks off."""
        headers = {"Accept": "*/*"}
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
            if self._tag:
                headers["If-Range"] = self._tag
        with source.ask(
            f"blobs/{self._blob.digest}",
            deadline,
            headers=headers,
            missing=missing,
            also=_RANGE_ANSWERS if self.size else frozenset(),
        ) as response:
            if response.status == 200:
                if self.size:
                    self.begin_again()
                self._tag = _strong_tag(response)
            elif response.status == 206 and _first_byte(response) == self.size:
                self.is_pieced = True
            else:
                self.begin_again()
                raise RegistryFailed("The registry gave another range than was asked for.")
            for chunk in response.chunks():
                self.has_begun = True
                self.size += len(chunk)
                if self.size > self._blob.size:
                    raise DigestMismatch(digest=self._blob.digest, size=self.size)
                self._check.update(chunk)
                self._into.write(chunk)
            if response.header("Content-Length") == str(self.size) != str(self._blob.size):
                # Whole by its own word: it did not break off, it is another.
                raise DigestMismatch(digest=self._blob.digest, size=self.size)

    def check(self) -> None:
        """Raises DigestMismatch."""
        found = self._check.hexdigest()
        if self._blob.digest.partition(":")[2] != found:
            raise DigestMismatch(digest=self._blob.digest, found=found)


def _strong_tag(response: Response) -> str:
    """Only a strong one promises the same bytes."""
    tag = response.header("ETag")
    return tag if tag.startswith('"') else ""


def _first_byte(response: Response) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
    return int(match[1]) if match else None
