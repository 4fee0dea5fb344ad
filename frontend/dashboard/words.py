"""What people are told of what goes on: our kinds, steps and statuses in plain words.

Tenants meet no host, no VM and no disk of ours here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from hosting.catalog.choices import ImageState
from hosting.compute.choices import RestartPolicy, Status
from hosting.compute.selectors import Observed
from hosting.operations.choices import State, What
from hosting.operations.models import Operation, OperationEvent

KINDS = {
    "instance.provision": "Create",
    "instance.start": "Start",
    "instance.stop": "Stop",
    "instance.restart": "Restart",
    "instance.resize": "Resize",
    "instance.migrate": "Move",
    "instance.teardown": "Delete",
    "instance.adopt": "Check",
    "image.import": "Import image",
    "image.remove": "Remove image",
}

# Those with a way back that a tenant may ask for; moves are the operators'.
CANCELLABLE = frozenset({"instance.provision", "instance.start", "instance.resize", "image.import"})

_PLACE = "Looks for room"
_START = "Starts the machine"
_BOOT = "Waits until it runs"
_END = "Waits until it has ended"
_DISKS = "Makes its disks"
_MACHINE = "Makes its machine"
_NOTE = "Notes that it is done"
_ELSEWHERE = "Looks for room elsewhere"
_JOIN_AGAIN = "Has its network made again"
_UNMAKE_MACHINE = "Removes its machine"
_UNMAKE_DISKS = "Removes its disks"
_GIVE_BACK = "Gives back what was reserved"

STEPS: dict[str, dict[str, str]] = {
    "instance.provision": {
        "place": _PLACE,
        "build_disks": _DISKS,
        "wake_blank": "Wakes a machine that has booted already",
        "unmake_blank": "Removes a machine that did not wake",
        "forget_blank": "Goes on without it",
        "build_vm": "Makes its machine and starts it",
        "await_running": _BOOT,
        "start_again": _START,
        "publish": _NOTE,
        "elsewhere": _ELSEWHERE,
        "join_again": _JOIN_AGAIN,
        "begin_to_unmake": "Begins to undo what was done",
        "unmake_vm": _UNMAKE_MACHINE,
        "unmake_disks": _UNMAKE_DISKS,
        "release": _GIVE_BACK,
    },
    "instance.start": {
        "place": _PLACE,
        "find_vm": "Looks for its machine",
        "build_disks": _DISKS,
        "build_vm": _MACHINE,
        "start_vm": _START,
        "await_running": _BOOT,
        "publish": _NOTE,
        "elsewhere": _ELSEWHERE,
        "join_again": _JOIN_AGAIN,
        "begin_to_end": "Asks it to end again",
        "end": _END,
        "release": _GIVE_BACK,
    },
    "instance.stop": {"begin": "Asks it to end", "end": _END, "settle": _GIVE_BACK},
    "instance.restart": {
        "begin": "Asks it to end",
        "end": _END,
        "place": _PLACE,
        "find_vm": "Looks for its machine",
        "build_disks": _DISKS,
        "build_vm": _MACHINE,
        "start_vm": _START,
        "await_running": _BOOT,
        "publish": _NOTE,
        "elsewhere": _ELSEWHERE,
        "join_again": _JOIN_AGAIN,
    },
    "instance.resize": {
        "check": "Looks for its machine",
        "begin": "Asks it to end",
        "end": _END,
        "unmake_vm": "Takes its old machine away",
        "settle": "Notes its new size",
        "place": _PLACE,
        "build_disks": "Looks for its disks",
        "build_vm": "Makes a machine of the new size",
        "start_vm": _START,
        "await_running": _BOOT,
        "publish": _NOTE,
        "elsewhere": _ELSEWHERE,
        "join_again": _JOIN_AGAIN,
        "give_up": "Keeps the old size",
    },
    "instance.migrate": {
        "reserve": "Looks for room to move to",
        "check": "Checks that it can be moved",
        "move": "Begins to move it, while it runs",
        "await_arrival": "Moves it, while it runs",
        "settle": "Notes that it has moved",
        "put_back": "Notes that there is nothing to move",
        "put_back_for_now": "Waits before it tries again",
        "elsewhere": _ELSEWHERE,
        "give_up": "Leaves it where it is",
    },
    "instance.teardown": {
        "retire": "Prepares its end",
        "stop": _END,
        "unmake_vm": _UNMAKE_MACHINE,
        "unmake_disks": _UNMAKE_DISKS,
        "release": _GIVE_BACK,
    },
    "instance.adopt": {"find": "Looks for its machine", "settle": "Notes that it runs"},
    "image.import": {
        "begin": "Looks for storage",
        "resolve": "Asks the registry what the reference names",
        "pin": "Pins the image by its digest",
        "fill": "Fetches the image and writes it to storage",
        "publish": "Enters it in the catalogue",
        "begin_to_unmake": "Begins to undo what was done",
        "unmake": "Removes what was fetched",
        "unmake_refused": "Removes what was fetched",
        "forget": "Notes why it failed",
    },
    "image.remove": {
        "take_next": "Looks for what is left of it",
        "destroy": "Removes it from storage",
        "drop": "Notes that it is gone",
    },
}

STATES = {
    State.QUEUED: ("waits its turn", "idle"),
    State.ACTIVE: ("under way", "busy"),
    State.SUCCEEDED: ("done", "good"),
    State.FAILED: ("failed", "bad"),
    State.CANCELLED: ("cancelled", "idle"),
    State.SUPERSEDED: ("replaced", "idle"),
}

_STATUS_TONES = {
    Status.RUNNING: "good",
    Status.STOPPED: "idle",
    Status.EXITED: "bad",
    Status.FAILED: "bad",
    Status.UNKNOWN: "idle",
}
IMAGE_TONES = {ImageState.IMPORTING: "busy", ImageState.READY: "good", ImageState.FAILED: "bad"}

_EXPLAINED = {
    Status.RUNNING: "It runs, as it should.",
    Status.STOPPED: "It is stopped, as it should be.",
    Status.EXITED: "It ended by itself, although it should run.",
    Status.FAILED: "It never came to life. Start it to try again, or delete it.",
    Status.UNKNOWN: "What it does is not known at the moment. It may well be running.",
    Status.DELETING: "It is about to be deleted.",
}


def tone_of(seen: Observed) -> str:
    """How a status looks: good, bad, idle, or busy for whatever is on its way."""
    if seen.status == Status.EXITED and _may_end(seen):
        return "idle"
    return _STATUS_TONES.get(seen.status, "busy")


def explain(seen: Observed) -> str:
    """What a status means when nothing is under way."""
    if seen.status == Status.EXITED and _may_end(seen):
        return "It ended by itself, and its restart policy leaves it so."
    return _EXPLAINED.get(seen.status, "")


@dataclass(frozen=True, slots=True)
class Now:
    """What is under way. `why`: what it waits for, or meets; empty while it goes on."""

    doing: str
    step: str
    why: str
    is_cancelled: bool
    is_retrying: bool


def now_of(seen: Observed) -> Now | None:
    operation = seen.operation
    if operation is None:
        return None
    return Now(
        doing=kind_of(operation),
        step=step_of(operation.kind, operation.step),
        why=operation.detail,
        is_cancelled=operation.cancel_requested_at is not None,
        is_retrying=operation.is_retrying,
    )


def _may_end(seen: Observed) -> bool:
    return seen.container.restart_policy == RestartPolicy.NEVER


def kind_of(operation: Operation) -> str:
    """What is being done, as a verb."""
    return KINDS.get(operation.kind, "Maintenance")


def step_of(kind: str, step: str) -> str:
    """Where an operation is."""
    if not step:
        return "About to begin"
    return STEPS.get(kind, {}).get(step, "Goes on")


def can_be_cancelled(operation: Operation) -> bool:
    """Whether asking to cancel it makes sense now."""
    return (
        operation.state == State.ACTIVE
        and operation.kind in CANCELLABLE
        and operation.cancel_requested_at is None
        and not operation.turned_back
    )


def actor(requested_by: str, members: Collection[str]) -> str:
    """Who asked. People outside the tenant, such as operators, are not named."""
    kind, _, name = requested_by.partition(":")
    if kind == "user":
        return name if name in members else "somebody outside the tenant"
    if kind == "token":
        return f"the API token {name}…"
    return "Bulkhead itself"


@dataclass(frozen=True, slots=True)
class Told:
    """A line of a journal for people."""

    at: datetime
    about: str
    text: str
    tone: str


def tell(event: OperationEvent, members: Collection[str]) -> Told:
    """Never the private part: that is the operators'."""
    operation = event.operation
    return Told(event.at, kind_of(operation), _text_of(event, operation, members), _tone_of(event))


def _text_of(event: OperationEvent, operation: Operation, members: Collection[str]) -> str:
    if event.what == What.REQUESTED:
        return f"Asked for by {actor(event.message.removeprefix('by '), members)}"
    if event.what == What.STEP:
        return step_of(operation.kind, event.step)
    if event.what == What.CANCEL_REQUESTED:
        return f"Cancellation asked for by {actor(event.message.removeprefix('by '), members)}"
    if event.what == What.SUPERSEDE_REQUESTED:
        kind, _, who = event.message.removeprefix("by ").partition(", ")
        return f"{KINDS.get(kind, 'Something else')} asked for instead by {actor(who, members)}"
    if event.what == What.TURNED_BACK:
        return f"Turned back. {event.message}".strip()
    if event.what == What.ENDED:
        return _end_of(event.message)
    return event.message or "Goes on"


_ENDS = {
    State.SUCCEEDED.value: "Done",
    State.FAILED.value: "Failed",
    State.CANCELLED.value: "Cancelled",
    State.SUPERSEDED.value: "Ended, since something else was asked for",
}


def _end_of(message: str) -> str:
    if message.startswith("superseded by "):  # a recovery took its work over
        return "Ended, since something more urgent took it over"
    return _ENDS.get(message) or f"Ended. {message}".strip()


def _tone_of(event: OperationEvent) -> str:
    if event.what == What.ENDED:
        ends = {State.SUCCEEDED.value: "good", State.SUPERSEDED.value: "idle"}
        if event.message.startswith("superseded by "):
            return "idle"
        return ends.get(event.message, "bad")
    if event.what in (What.RETRYING, What.TURNED_BACK):
        return "bad"
    return "busy" if event.what == What.WAITING else "idle"
