"""Operations on objects: current_operations, allowed_operations, and waiting one's turn (FACTS 2).

An operation checks that it may run, enters {task → operation} into the object's
current_operations, runs, and takes it out again. One that meets another in progress is not
refused: it waits and looks again, woken when the other ends, for up to two hours.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.errors import XapiError

if TYPE_CHECKING:
    from deploy.lab.dispatch import Call
    from deploy.lab.lab import Lab

LONGEST_WAIT = 2 * 3600.0
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 20.0

Check = Callable[["Lab", Row, str], None]
"""Raises what forbids the operation on the row now."""

ALLOWED: dict[str, Callable[[Lab, Row], list[str]]] = {}
"""Class → what computes its rows' allowed_operations."""


def allowed_operations(
    cls: str,
) -> Callable[[Callable[[Lab, Row], list[str]]], Callable[[Lab, Row], list[str]]]:
    """Register how a class computes allowed_operations."""

    def register(function: Callable[[Lab, Row], list[str]]) -> Callable[[Lab, Row], list[str]]:
        ALLOWED[cls] = function
        return function

    return register


_ALSO: dict[str, list[Callable[[Lab, Row], None]]] = defaultdict(list)


def refreshes_also(
    cls: str,
) -> Callable[[Callable[[Lab, Row], None]], Callable[[Lab, Row], None]]:
    """Register what else to recompute whenever an object of the class is."""

    def register(function: Callable[[Lab, Row], None]) -> Callable[[Lab, Row], None]:
        _ALSO[cls].append(function)
        return function

    return register


def refresh(lab: Lab, row: Row) -> None:
    """Recompute allowed_operations; no event when nothing changed."""
    if row.cls in ALLOWED:
        lab.db.update(row, allowed_operations=ALLOWED[row.cls](lab, row))
    for function in _ALSO.get(row.cls, ()):
        function(lab, row)


class Turns:
    """Who waits for an object's operations to end. One per lab."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)

    def ended(self, ref: str) -> None:
        for future in self._waiting.pop(ref, ()):
            if not future.done():
                future.set_result(None)

    async def wait(self, call: Call, ref: str, seconds: float) -> None:
        """Return when an operation of the object ended, the call was cancelled, or after `seconds`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[ref].add(future)
        timer = asyncio.ensure_future(call.lab.clock.sleep(seconds))
        cancelled = asyncio.ensure_future(call.cancelled.wait())
        try:
            await asyncio.wait((future, timer, cancelled), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            cancelled.cancel()
            self._waiting[ref].discard(future)
            if not self._waiting[ref]:
                self._waiting.pop(ref, None)
        call.check_cancelled()


def begin(call: Call, row: Row, operation: str) -> None:
    """Enter the operation; the check has passed and nothing was awaited since."""
    call.db.update(row, current_operations={**row.current_operations, call.task: operation})
    refresh(call.lab, row)


def end(call: Call, row: Row) -> None:
    """Take the operation out again and let others look."""
    rest = {task: op for task, op in row.current_operations.items() if task != call.task}
    call.db.update(row, current_operations=rest)
    refresh(call.lab, row)
    call.lab.turns.ended(row.ref)


async def wait_until_valid(call: Call, row: Row, operation: str, check: Check) -> None:
    """Pass the check, waiting out other operations. Raises whatever else forbids it."""
    deadline = call.lab.clock.now() + LONGEST_WAIT
    while True:
        call.db.get(row.cls, row.ref)
        try:
            check(call.lab, row, operation)
        except XapiError as error:
            if error.code != "OTHER_OPERATION_IN_PROGRESS" or call.lab.clock.now() >= deadline:
                raise
            pause = call.lab.random.uniform(SHORTEST_RETRY, LONGEST_RETRY)
            await call.lab.turns.wait(call, row.ref, pause)
        else:
            return


@asynccontextmanager
async def operation(call: Call, row: Row, name: str, check: Check) -> AsyncIterator[None]:
    """Hold `name` on `row` while the block runs."""
    await wait_until_valid(call, row, name, check)
    begin(call, row, name)
    try:
        yield
    finally:
        end(call, row)
