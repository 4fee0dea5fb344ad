"""Differences that stay, and why. They are printed as known and still do not count as agreeing.

Only what is not the daemon's own answer, or what the lab does not serve, belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.lab.replay.player import StepResult


@dataclass(frozen=True)
class Accepted:
    """One step's known differences: all of them lie below `paths`."""

    scenario: str
    step: str
    paths: tuple[str, ...]
    reason: str
    sometimes: bool = False
    """A race: some replays agree."""


_ASLEEP = (
    "Guests of the recorded pool were simulated: shortly after a resume one goes to sleep again"
    " instead of shutting down, so the VM is suspended where a guest that obeys leaves it halted."
)
_ASLEEP_BEFORE = f"Follows from step {{}}: {_ASLEEP}"
_OTHERS_MESSAGE = (
    "The recorder looked up messages without their VM: this one tells of a VM of another scenario."
)
_NAMESAKE = (
    "The recorded pool held another scenario's object with the same label, and the recorder's name"
    " stands for that one."
)
_PLUGGED = (
    "Hot plugging was simulated: whether an interface plugged into a running VM still counts as attached"
    " after a suspend is that hypervisor's doing (after a start it does not: records_vm_family)."
)
_GUEST_METRICS = (
    "Guest metrics were simulated: whether a hard reboot had brought new ones by the time they were"
    " read differs between recordings (here not yet, in lifecycle_running yes)."
)


def _each(scenario: str, steps: str, reason: str, paths: tuple[str, ...]) -> tuple[Accepted, ...]:
    return tuple(Accepted(scenario, step, paths, reason) for step in steps.split())


ACCEPTED: tuple[Accepted, ...] = (
    *_each("async_states", "42 43", _ASLEEP, ("result",)),
    *_each("async_states", "53 54 55 102 104 138 140", _ASLEEP_BEFORE.format(40), ("result",)),
    *_each("async_states", "162", _ASLEEP_BEFORE.format(40), ("answer",)),
    *_each("messages", "19", _ASLEEP, ("answer",)),
    *_each("messages", "21 23", _ASLEEP_BEFORE.format(19), ("answer",)),
    *_each("messages", "36", _ASLEEP_BEFORE.format(19), ("result",)),
    Accepted(
        "concurrency",
        "36",
        ("result.current_operations", "result.allowed_operations"),
        "Two calls were sent at once and the record read at once: whether the second has begun by"
        " then is a race (with the pair before it, steps 14 to 16, it had).",
        sometimes=True,
    ),
    Accepted(
        "event_first",
        "31",
        ("classes", "operations"),
        "The recorded pool held what other scenarios left: a VBD, blobs, metrics, tasks and deleted"
        " messages. A fresh one has no objects of these classes.",
    ),
    Accepted(
        "host_evacuate",
        "68",
        ("result",),
        "The certificate is the recorded host's own; every pool has others.",
    ),
    *_each("jsonrpc_basics", "8 27", _NAMESAKE, ("reply.result",)),
    *_each("where_expressions", "26", _NAMESAKE, ("result.<VM:template Debian Bookworm 12>",)),
    *_each("sr_pbd", "59", _NAMESAKE, ("result[<SR:local-h1>]",)),
    Accepted(
        "records_fresh_pool",
        "4",
        ("step",),
        "A task that setting up the recorded pool left behind; a fresh pool has none.",
    ),
    *_each("records_fresh_pool", "53", _OTHERS_MESSAGE, ("step",)),
    *_each("start_records", "58 59 60 61 63 65 66 71 73 74 75 76", _OTHERS_MESSAGE, ("step",)),
    *_each("start_records", "23 30", _GUEST_METRICS, ("result.guest_metrics",)),
    *_each("start_records", "27 34", _GUEST_METRICS, ("answer",)),
    *_each("vif_create", "117", _PLUGGED, ("result.currently_attached",)),
    Accepted(
        "vm_create_full",
        "1",
        (
            "result.name_label",
            "result.tags",
            "result.version",
            "result.NVRAM",
        ),
        "The recorder wrote step 0's arguments down after changing them for step 3: what was sent"
        " first, with another name, tags, version and NVRAM, is not recorded.",
    ),
)


def reason_for(scenario: str, step: StepResult) -> str | None:
    """Why a step differs, if every one of its differences is known."""
    entries = [e for e in ACCEPTED if (e.scenario, e.step) == (scenario, step.index)]
    prefixes = tuple(path for entry in entries for path in entry.paths)
    if not prefixes or not all(d.path.startswith(prefixes) for d in step.differences):
        return None
    return "; ".join(entry.reason for entry in entries)
