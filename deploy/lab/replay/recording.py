"""Recordings as files: one scenario each, with the steps a client took and what it was answered."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
