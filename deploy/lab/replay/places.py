"""Where two answers differ, and what is known of the place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

MISSING = "(missing)"
NOTHING = "(nothing)"


@dataclass(frozen=True)
class Difference:
    """One place where ours is not as recorded."""

    path: str
    expected: Any
    got: Any


@dataclass(frozen=True)
class Place:
    """Where in an answer we are: decides which rules hold."""

    path: str = "result"
    call: str = ""
    class_name: str = ""
    field: str = ""
    key: str = ""
    subject: str = ""
    """The object that the record belongs to, as this pool calls it."""
    partial: bool = False
    """Only some members were recorded."""
    initial: bool = False
    """The answer is event.from's first: it shows what other scenarios left, too."""

    def at(self, step: str) -> str:
        return f"{self.path}.{step}"

    def in_record(self, class_name: str, subject: str = "") -> Place:
        return replace(self, class_name=class_name, field="", key="", subject=subject)


@dataclass
class Facts:
    """What a scenario knows of this pool, beside names."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    """Management address by the number that the test pool's had ("1" is h1's)."""
    hosts: frozenset[str] = frozenset()
    """References and uuids of the pool's hosts."""
    host_names: frozenset[str] = frozenset()
    placed_at_random: set[str] = field(default_factory=set)
    """VMs whose host the pool chose itself."""
    started: set[str] = field(default_factory=set)
    """VMs that were ever started."""
    any_placed_at_random: bool = False
    foreign: frozenset[str] = frozenset()
    """Names that only lists of everything show: they may be other scenarios' objects."""
    offsets: dict[str, int] = field(default_factory=dict)
    """How many more objects of a class there were when it was first counted."""
    canonical: Mapping[str, str] = field(default_factory=dict)
    """Class names by their lower-case form."""
    identify: Callable[[Sequence[str], Sequence[str]], list[tuple[str, str]]] | None = None
    """Tells which of several new objects is which, by their records."""
