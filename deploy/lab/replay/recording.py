"""Recordings as files: one scenario each, with the steps a client took and what it was answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.lab.replay import rules
from deploy.lab.replay.names import NAME, VALUES, is_name

Step = Mapping[str, Any]

CONTAINERS = {"parallel": "steps", "follow": "jobs"}
"""Steps made of other steps, and where those are. Only the inner ones are counted."""


@dataclass(frozen=True)
class Recording:
    """One recorded scenario."""

    scenario: str
    about: str
    binds: tuple[str, ...]
    """Names of the fresh pool's objects that the steps use."""
    steps: tuple[Step, ...]

    def leaves(self) -> Iterator[tuple[str, Step]]:
        """Every counted step with its index ("12", or "27.1" inside a container)."""
        for number, step in enumerate(self.steps):
            yield from leaves_of(str(number), step)

    def foreign_names(self) -> frozenset[str]:
        """Names that only lists of everything show, and no step ever uses or returns alone."""
        shown: set[str] = set()
        used = set(self.binds)
        for _, step in self.leaves():
            used.update(names_in([step.get("args"), step.get("request"), step.get("body")]))
            result = step.get("result")
            if rules.is_pool_wide(str(step.get("call"))) and isinstance(result, list | dict):
                shown.update(name for name in result if is_name(name))
            elif step.get("call") == "event.from" and isinstance(result, dict):
                shown.update(str(event.get("ref")) for event in result.get("events", ()))
            else:
                used.update(names_in(result))
        return frozenset(shown - used)


def names_in(value: Any) -> Iterable[str]:
    """Every bindable name in a value, in order of appearance."""
    if isinstance(value, str):
        yield from (name for name in NAME.findall(value) if name not in VALUES)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from names_in(key)
            yield from names_in(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from names_in(part)


def leaves_of(index: str, step: Step) -> Iterator[tuple[str, Step]]:
    inner = CONTAINERS.get(str(step.get("via")))
    if inner is None or not step.get(inner):
        yield index, step
        return
    for number, part in enumerate(step[inner]):
        yield from leaves_of(f"{index}.{number}", part)


def load(path: Path) -> Recording:
    """Read one recording.

    Raises ValueError when the file is not a recording.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
        raise ValueError(  # noqa: TRY004 - the file's content is wrong, not a type
            f"{path} is not a recording: it has no list of steps."
        )
    return Recording(
        scenario=str(content.get("scenario", path.stem)),
        about=str(content.get("about", "")),
        binds=tuple(content.get("pool", {}).get("binds", ())),
        steps=tuple(content["steps"]),
    )


def load_all(directory: Path) -> list[Recording]:
    """Read every recording of a directory, in order of their file names.

    Raises ValueError when there is none.
    """
    paths = sorted(directory.glob("*.json"))
    if not paths:
        raise ValueError(f"No recordings (*.json) in {directory}.")
    return [load(path) for path in paths]
