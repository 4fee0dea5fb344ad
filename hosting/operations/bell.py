"""Rings for a worker. Nothing depends on its being heard: the dispatcher rings again."""

from collections.abc import Iterable
from uuid import UUID

import structlog
from django.db import transaction

from hosting.celery import app
from hosting.operations.choices import longest_step, queue_of

log = structlog.get_logger(__name__)

# Seconds after which an unanswered ring is of no use: the dispatcher has rung again.
_EXPIRES = 60


def ring_on_commit(operations: Iterable[tuple[UUID, str]]) -> None:
    """Ask workers, once the transaction is committed, to advance these (uuid, kind)."""
    asked = list(operations)
    if asked:
        transaction.on_commit(lambda: _ring(asked))


def _ring(operations: list[tuple[UUID, str]]) -> None:
    for uuid, kind in operations:
        queue = queue_of(kind)
        limit = int(longest_step(queue).total_seconds())
        try:
            app.send_task(
                "worker.tasks.advance",
                [str(uuid)],
                queue=queue.value,
                soft_time_limit=limit,
                time_limit=limit * 3 // 2,
                expires=_EXPIRES,
                ignore_result=True,
                retry=False,
            )
        except Exception as error:
            # Each further try would cost a timeout; the dispatcher rings when the broker is back.
            log.warning("broker_unreachable", unrung=len(operations), error=str(error))
            return
