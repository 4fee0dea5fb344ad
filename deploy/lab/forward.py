"""Having a host do its part of a call, as the coordinator does (message_forwarding.ml)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, execute
from deploy.lab.errors import XapiError
from deploy.lab.operations import begin, end
from deploy.lab.schema import SCHEMA

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine

LONGEST_MARKING = 120.0
MARKING_RETRY = 2.0


async def forward(call: Call, host: str) -> Machine:
    """Let `host` (a reference) do the rest; answers its machine once it is reached.

    Raises HOST_OFFLINE [host] at once when the pool knows that it is down, CANNOT_CONTACT_HOST
    [host] after a long wait when it does not answer (recorded: PROBES-FAIL).
    """
    row = call.db.get("host", host)
    machine = call.lab.machine(host)
    if call.task_row is not None:
        call.db.update(call.task_row, resident_on=host)
    if machine.is_coordinator:
        return machine
    if _is_reached(machine):
        if call.lab.config.durations.forward:
            await call.lab.clock.sleep(call.lab.config.durations.forward)
        return machine
    metrics = call.db.find("host_metrics", row.metrics)
    if metrics is None or not metrics.live:
        raise XapiError("HOST_OFFLINE", host)
    await pause(call, call.lab.config.durations.contact)
    if not _is_reached(machine):
        raise XapiError("CANNOT_CONTACT_HOST", host)
    return machine


async def resident(call: Call, device: Row) -> tuple[Row, Machine]:
    """The VM of a VBD or VIF, and the machine that it runs on, reached as `forward` does it."""
    vm = call.db.get("VM", device.VM)
    return vm, await forward(call, vm.resident_on)


def _is_reached(machine: Machine) -> bool:
    return machine.is_coordinator or machine.answers_coordinator


async def pause(call: Call, seconds: float) -> None:
    """Wait so long, or until the call is cancelled (TASK_CANCELLED)."""
    await first_of(call.lab.clock.sleep(seconds), call.cancelled.wait())
    call.check_cancelled()


async def first_of(*works: Any) -> None:
    """Return when one of the awaitables is done; the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def passed_cancel_points(call: Call, points: int) -> None:
    """Note in the task at how many points the hypervisor's work could have been cancelled.

    The daemon shows it for those who debug it; the numbers are those recorded.
    """
    if call.task_row is not None:
        noted = {**call.task_row.other_config, "debug_info:cancel_points_seen": str(points)}
        call.db.update(call.task_row, allowed_operations=[], other_config=noted)


@asynccontextmanager
async def marked(
    call: Call, rows: list[Row], check: Callable[[Lab, Row, str], None]
) -> AsyncIterator[None]:
    """Hold `attach` on devices of a VM while the block runs; busy ones are waited for, 120 s."""
    held: list[Row] = []
    deadline = call.lab.clock.now() + LONGEST_MARKING
    try:
        for row in rows:
            await _wait_until_free(call, row, check, deadline)
            begin(call, row, "attach")
            held.append(row)
        yield
    finally:
        for row in held:
            if call.db.find(row.cls, row.ref) is not None:
                end(call, row)


async def _wait_until_free(
    call: Call, row: Row, check: Callable[[Lab, Row, str], None], deadline: float
) -> None:
    while True:
        try:
            check(call.lab, row, "attach")
        except XapiError as error:
            busy = error.code == "OTHER_OPERATION_IN_PROGRESS"
            if not busy or call.lab.clock.now() >= deadline:
                raise
            await call.lab.turns.wait(call, row.ref, MARKING_RETRY)
        else:
            return


@contextmanager
def subtask(call: Call, name: str) -> Iterator[Row]:
    """A task below the call's own, such as hosts make when they call the coordinator back."""
    parent = call.task_row.ref if call.task_row is not None else "OpaqueRef:NULL"
    row = call.db.create(
        "task",
        name_label=name,
        created=call.lab.clock.date(),
        status="pending",
        resident_on=call.lab.coordinator.host.ref,
        type="<none/>",
        backtrace="()",
        subtask_of=parent,
        session=call.session.ref if call.session is not None else "OpaqueRef:NULL",
    )
    try:
        yield row
    finally:
        call.db.delete(row)


async def call_within(call: Call, method: str, *arguments: Any) -> Any:
    """Make another call in the name of this one, under a task of its own (`within` shares it).

    Needed where several such calls run at once: an object holds one operation per task.
    """
    inner = Call(call.lab, call.machine, SCHEMA.messages[method], session=call.session)
    call.lab.tasks.open(inner)
    assert inner.task_row is not None
    if call.task_row is not None:
        call.db.update(inner.task_row, subtask_of=call.task_row.ref)
    watcher = asyncio.ensure_future(_pass_on_cancel(call, inner))
    try:
        result = execute(inner, list(arguments))
        return await result if inspect.isawaitable(result) else result
    finally:
        watcher.cancel()
        call.lab.tasks.forget(inner)


async def _pass_on_cancel(outer: Call, inner: Call) -> None:
    await outer.cancelled.wait()
    inner.cancelled.set()
