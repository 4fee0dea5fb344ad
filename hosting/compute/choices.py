"""The closed lists of compute."""

from django.db.models import TextChoices


class DesiredState(TextChoices):
    """What the tenant wants of a container."""

    RUNNING = "running"
    STOPPED = "stopped"
    DELETED = "deleted"


class RestartPolicy(TextChoices):
    """What happens when a container ends by itself."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Status(TextChoices):
    """What people are told. Derived at each look from wish, fact and what is under way; never stored.

    Failed: it never came to life, and somebody must ask again. Exited: it
    ended by itself. Unknown: its pool has not told of it.
    """

    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    MOVING = "moving"
    RESTARTING = "restarting"
    RESIZING = "resizing"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"
    FAILED = "failed"
    DELETING = "deleting"
    UNKNOWN = "unknown"
