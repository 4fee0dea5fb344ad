"""Tasks: what stands for a call while it runs (FACTS 10)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.schema import NULL
from deploy.lab.wire import EPOCH

if TYPE_CHECKING:
    from deploy.lab.dispatch import Call
    from deploy.lab.lab import Lab

COMPLETED_KEPT = 65 * 60.0
PENDING_KEPT = 24 * 3600.0
MOST_TASKS = 200
NOT_CANCELLABLE = frozenset({"host.disable", "VM.revert"})
"""Messages whose tasks offer no `cancel` (recorded: async_states)."""


class Tasks:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.calls: dict[str, Call] = {}
        """The calls under way, by the reference of their task."""

    def make(self, call: Call, label: str, description: str = "", **values: Any) -> Row:
        """A pending task of the call's session."""
        return self.lab.db.create(
            "task",
            name_label=label,
            name_description=description,
            created=self.lab.clock.date(),
            finished=EPOCH,
            status="pending",
            resident_on=call.machine.host.ref,
            type="<none/>",
            backtrace="()",
            session=call.session.ref if call.session is not None else NULL,
            **values,
        )

    def open(self, call: Call, *, is_async: bool = False) -> None:
        """Give the call a task in the database."""
        name = call.message.full_name
        cancellable = [] if name in NOT_CANCELLABLE else ["cancel"]
        label = f"Async.{name}" if is_async else name
        call.task_row = self.make(call, label, allowed_operations=cancellable)
        call.task = call.task_row.ref
        self.calls[call.task] = call

    def forget(self, call: Call) -> None:
        """A synchronous call is over: its task disappears with it."""
        self.calls.pop(call.task, None)
        if call.task_row is not None:
            self.lab.db.delete(call.task_row)

    def succeed(self, call: Call, result: str) -> None:
        self._finish(call, status="success", result=result)

    def fail(self, call: Call, error: XapiError) -> None:
        cancelled = error.code == "TASK_CANCELLED"
        self._finish(
            call,
            status="cancelled" if cancelled else "failure",
            error_info=error.description,
        )

    def _finish(self, call: Call, **outcome: object) -> None:
        assert call.task_row is not None
        self.calls.pop(call.task, None)
        self.lab.db.update(
            call.task_row,
            **outcome,
            progress=1.0,
            finished=self.lab.clock.date(),
            allowed_operations=[],
        )
        if "destroy" in call.task_row.current_operations.values():
            self.lab.db.delete(call.task_row)

    def collect(self) -> None:
        """The collector's pass (every 30 s): old tasks, then the oldest finished above the limit."""
        now = self.lab.clock.now()
        finished: list[Row] = []
        for task in self.lab.db.all("task"):
            if task.status == "pending":
                if _age(now, task.created) > PENDING_KEPT:
                    self.lab.db.delete(task)
            elif _age(now, task.finished) > COMPLETED_KEPT:
                self.lab.db.delete(task)
            else:
                finished.append(task)
        finished.sort(key=lambda row: row.finished.timestamp())
        surplus = max(0, self.lab.db.count("task") - MOST_TASKS)
        for task in finished[:surplus]:
            self.lab.db.delete(task)

    def abandon_all(self) -> None:
        """Whoever serves the calls is gone: they go no further than what hosts do for them."""
        for call in self.calls.values():
            call.cancelled.set()

    def forget_all(self) -> None:
        """Tasks do not survive a restart of the toolstack."""
        self.abandon_all()
        self.calls.clear()
        for task in self.lab.db.all("task"):
            self.lab.db.delete(task)


def _age(now: float, moment: datetime) -> float:
    return now - moment.timestamp()
