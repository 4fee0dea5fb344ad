"""Whether the ledger's sums are what its rows add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wrong:
    """`what`: "<table>:<uuid>". `column`: whose sum it is."""

    what: str
    column: str
    kept: int
    counted: int


def diff(
    kept: Mapping[str, Mapping[str, int]], counted: Mapping[str, Mapping[str, int]]
) -> Iterator[Wrong]:
    """Both: what → column → sum. What nothing was counted for should be zero."""
    for what, sums in sorted(kept.items()):
        for column, value in sorted(sums.items()):
            should = counted.get(what, {}).get(column, 0)
            if value != should:
                yield Wrong(what, column, value, should)
