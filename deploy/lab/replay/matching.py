"""Which member of our set stands for which recorded one: all alike if possible, else the best."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from deploy.lab.replay.names import Names
from deploy.lab.replay.places import Difference

SEARCH_LIMIT = 2000
"""Pairs tried before the best so far is taken."""

Compare = Callable[[Any, Any], list[Difference]]


class Matching:
    """Pairs the members of two sets. No binding of names outlives it: only the pairing does."""

    def __init__(
        self, names: Names, compare: Compare, expected: Sequence[Any], got: Sequence[Any]
    ) -> None:
        self._names = names
        self._compare = compare
        self._expected = expected
        self._got = got
        self._tries = 0

    def pairs(self) -> dict[int, int]:
        """Index of ours by index of the recorded member; those without a counterpart are left out."""
        perfect = self._perfect(0, {})
        return self._best() if perfect is None else perfect

    def _perfect(self, number: int, pairs: dict[int, int]) -> dict[int, int] | None:
        if number == len(self._expected):
            return dict(pairs)
        taken = set(pairs.values())
        for j in range(len(self._got)):
            if j in taken:
                continue
            self._tries += 1
            if self._tries > SEARCH_LIMIT:
                return None
            mark = self._names.mark()
            found = None
            if self._agree(number, j):
                found = self._perfect(number + 1, {**pairs, number: j})
            self._names.undo(mark)
            if found is not None:
                return found
        return None

    def _agree(self, i: int, j: int) -> bool:
        expected, got = self._expected[i], self._got[j]
        return may_pair(expected, got) and not self._compare(expected, got)

    def _best(self) -> dict[int, int]:
        costs = []
        for i, j in itertools.product(range(len(self._expected)), range(len(self._got))):
            cost = self._cost(self._expected[i], self._got[j])
            if cost is not None:
                costs.append((cost, i, j))
        best: dict[int, int] = {}
        for _, i, j in sorted(costs):
            if i not in best and j not in best.values():
                best[i] = j
        return best

    def _cost(self, expected: Any, got: Any) -> int | None:
        """How much two members differ; None when they cannot be meant for each other."""
        if not may_pair(expected, got):
            return None
        mark = self._names.mark()
        found = self._compare(expected, got)
        self._names.undo(mark)
        if not isinstance(expected, dict):
            return None if found else 0
        if any(d.path.endswith((".ref", ".class", ".operation")) for d in found):
            return None
        return len(found)


def may_pair(expected: Any, got: Any) -> bool:
    """A quick look, so that long sets are not compared member by member in vain."""
    if isinstance(expected, dict) and isinstance(got, dict) and "operation" in expected:
        return all(expected.get(key) == got.get(key) for key in ("operation", "class"))
    return type(expected) is type(got)
