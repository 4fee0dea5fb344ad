"""Which images are missing from a pool, and whose disks nobody needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Act(StrEnum):
    IMPORT = "image.import"
    REMOVE = "image.remove"


@dataclass(frozen=True, slots=True)
class View:
    """An image that nothing is being done with. `digest`: what it is pinned to now, if to anything.

    `has_needless_disks`: of any of its versions. `failed_lately`: let it be for a while.
    """

    uuid: UUID
    digest: str | None
    is_removed: bool = False
    has_needless_disks: bool = False
    failed_lately: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """`digest`: import exactly this, whatever the image's name means by now."""

    image: UUID
    act: Act
    digest: str | None = None


def diff(
    views: Iterable[View], pools: frozenset[UUID], ready: frozenset[tuple[str, UUID]]
) -> Iterator[Begin]:
    """`pools`: those that should have every image. `ready`: (digest, pool) that is there."""
    for view in views:
        if view.failed_lately:
            continue
        if view.is_removed:
            if view.has_needless_disks:
                yield Begin(view.uuid, Act.REMOVE)
        elif view.digest is not None and any((view.digest, pool) not in ready for pool in pools):
            yield Begin(view.uuid, Act.IMPORT, view.digest)
