"""Holds an operation while a step of it runs that may take longer than a lease.

A lease is short, so that what a dead worker held is soon taken up again. One that lives renews it from a thread beside
the step; the two end together, since they are one process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

import structlog
from django.db import InterfaceError, OperationalError, connection

from hosting.operations.models import Operation
from worker import lease

log = structlog.get_logger(__name__)

# Renewals that may be missed in a row, while the database is away, before the lease is over.
_SPARE = 5


@contextmanager
def held(operation: Operation, length: timedelta, *, at_most: timedelta) -> Iterator[None]:
    """Within it the lease is renewed, each time for `length`, until it is lost or `at_most` is over.

    The thread has a database connection of its own and changes nothing of `operation`, which stays as it was claimed.
    """
    over = threading.Event()
    beating = threading.Thread(
        target=_beat, args=(operation, length, at_most, over), name="pulse", daemon=True
    )
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


def _beat(
    operation: Operation, length: timedelta, at_most: timedelta, over: threading.Event
) -> None:
    ends_at = monotonic() + at_most.total_seconds()
    try:
        while not over.wait(length.total_seconds() / (_SPARE + 1)) and monotonic() < ends_at:
            if not _renewed(operation, length):
                return
    finally:
        connection.close()


def _renewed(operation: Operation, length: timedelta) -> bool:
    """False when it is another's by now. A database that is away is asked again at the next beat."""
    try:
        return lease.renew(operation, length)
    except (OperationalError, InterfaceError) as error:
        log.warning("lease_not_renewed", operation=str(operation.uuid), error=str(error))
        connection.close()
        return True
