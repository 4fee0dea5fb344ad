"""What Celery may ring for. Ids in, nothing out; losing or doubling any of these is harmless."""

from uuid import UUID

from celery import shared_task

from hosting.operations import services
from hosting.operations.attention import raise_and_close_alarms
from worker import engine
from worker.connections import Connections

_connections = Connections()


@shared_task(name="worker.tasks.advance")
def advance(uuid: str) -> None:
    """Run an operation's steps as long as one follows the other, for half a minute."""
    engine.advance(UUID(uuid), _connections.of)


@shared_task(name="worker.tasks.dispatch")
def dispatch() -> None:
    """Ring for every operation that is due. Each second."""
    services.dispatch_due()


@shared_task(name="worker.tasks.watch")
def watch() -> None:
    """Open and close the alarms that rows alone tell of. Every ten seconds."""
    raise_and_close_alarms()
