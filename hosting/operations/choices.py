"""The words of operations, and what the web tier and the worker must both know of their kinds."""

from datetime import timedelta

from django.db.models import TextChoices


class State(TextChoices):
    """Queued: made to supersede an active one, and waits for that to let go."""

    QUEUED = "queued"
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SUPERSEDED})


class Trouble(TextChoices):
    """What the present step meets; empty when it goes well. None of it ends the operation.

    Stuck: refused where there is no way back. Bug: something that the worker has no word for.
    """

    NONE = ""
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    GONE = "gone"
    NO_ROOM = "no_room"
    STUCK = "stuck"
    BUG = "bug"


class What(TextChoices):
    """What a line of the journal tells."""

    REQUESTED = "requested"
    STEP = "step"
    WAITING = "waiting"
    RETRYING = "retrying"
    TURNED_BACK = "turned_back"
    CANCEL_REQUESTED = "cancel_requested"
    SUPERSEDE_REQUESTED = "supersede_requested"
    SPAWNED = "spawned"
    ENDED = "ended"


class Queue(TextChoices):
    """Celery's queues: a storm in one must not starve another."""

    TENANT = "tenant"
    RECOVERY = "recovery"
    IMAGES = "images"


# Kinds that do not go to Queue.TENANT.
_QUEUES: dict[str, Queue] = {
    "host.recover": Queue.RECOVERY,
    "pool.recover": Queue.RECOVERY,
    "image.import": Queue.IMAGES,
    "image.remove": Queue.IMAGES,
}


# What may be asked for, by what it is about; a test holds this to the worker's workflows.
KINDS = (
    "blank.discard",
    "blank.prepare",
    "host.evacuate",
    "host.recover",
    "host.return",
    "image.import",
    "image.remove",
    "instance.adopt",
    "instance.migrate",
    "instance.provision",
    "instance.resize",
    "instance.restart",
    "instance.start",
    "instance.stop",
    "instance.teardown",
    "network.build",
    "network.remove",
    "pool.sweep",
)


def queue_of(kind: str) -> Queue:
    """The queue whose workers run operations of this kind."""
    return _QUEUES.get(kind, Queue.TENANT)


def kinds_in(queue: Queue) -> list[str]:
    """The kinds that are sent to `queue` by name; those of Queue.TENANT are all others."""
    return [kind for kind, home in _QUEUES.items() if home == queue]


def longest_step(queue: Queue) -> timedelta:
    """How long one step may take in this queue before its worker is interrupted.

    The hard limit is half as long again, and it may hold its operation for twice as long: a worker is certainly
    gone before another one may take that over, and what one held that died is free after two minutes.
    """
    return timedelta(minutes=30) if queue == Queue.IMAGES else timedelta(seconds=60)
