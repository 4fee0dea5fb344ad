"""What a server asks of whoever owns the disks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Refused(Exception):
    """A client may not have an export now; the text tells it why."""


class Unknown(Exception):
    """There is no export of that name."""


class Export(Protocol):
    """A disk as one client may use it. Each call answers at once, or raises NbdError.

    The server has checked that offsets and lengths (bytes) lie within `size`.
    """

    @property
    def size(self) -> int: ...

    @property
    def read_only(self) -> bool: ...

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def zero(self, offset: int, length: int, *, keep: bool) -> None:
        """Make it read as zeros; with `keep` the space may not be given back."""

    def flush(self) -> None: ...


class Exports(Protocol):
    """All disks that a server offers. `client` is the address that a connection comes from."""

    def names(self, client: str) -> Iterable[str]: ...

    def open(self, name: str, client: str) -> Export:
        """Raises Unknown, Refused."""
