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

_ODD_CLASSES = [
    "VM",
    "VDI",
    "VBD",
    "VIF",
    "SR",
    "PBD",
    "SM",
    "PIF",
    "VLAN",
    "Bond",
    "VTPM",
    "VM_metrics",
    "VM_guest_metrics",
    "VBD_metrics",
    "VIF_metrics",
    "PIF_metrics",
    "VMPP",
    "VMSS",
    "VM_appliance",
    "DR_task",
    "PCI",
    "PGPU",
    "GPU_group",
    "VGPU",
    "VGPU_type",
    "PVS_site",
    "PVS_server",
    "PVS_proxy",
    "PVS_cache_storage",
    "Feature",
    "SDN_controller",
    "PUSB",
    "USB_group",
    "VUSB",
    "Cluster",
    "Cluster_host",
    "Certificate",
    "Repository",
    "Observer",
    "VM_group",
    "Host_driver",
    "Driver_variant",
    "LVHD",
]
"""Classes whose names events write otherwise: in lower case."""

_PLAIN_CLASSES = [
    "host",
    "host_metrics",
    "host_cpu",
    "pool",
    "network",
    "task",
    "message",
    "console",
    "session",
    "blob",
    "secret",
    "tunnel",
    "network_sriov",
]

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

    def class_names(self) -> dict[str, str]:
        """Class names as calls write them, by how events do."""
        classes = {*_ODD_CLASSES, *_PLAIN_CLASSES}
        for _, step in self.leaves():
            call = str(step.get("call", "")).removeprefix("Async.")
            if "." in call:
                classes.add(call.partition(".")[0])
        return {name.lower(): name for name in classes}

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


def duration_of(step: Step) -> float:
    """How long a step took when it was recorded, in seconds."""
    seconds = step.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def words_in(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from words_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from words_in(part)


def title_of(step: Step) -> str:
    call = step.get("call") or str(step.get("request", "")).partition("\n")[0]
    return str(call or call_in(str(step.get("body", ""))) or step.get("via"))[:80]


def outcome_of(step: Step) -> Any:
    for key in ("error", "transport", "result", "reply", "count", "response"):
        if key in step:
            return {key: step[key]} if key != "result" else step[key]
    return "to be played"


def call_in(body: str) -> str:
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    return str(content.get("method", "")) if isinstance(content, dict) else ""
