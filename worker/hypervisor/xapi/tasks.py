"""Long calls: XAPI's tasks, awaited by events of their own (xapi_task.ml, xapi_event.ml).

A task is forgotten by the pool when it restarts, an hour after its end, or earlier when more than 200
exist; hence results are read at once and tasks we have read are destroyed. What a forgotten one did is
read from its object.
"""

import time
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from worker.hypervisor.port import Gone, TaskHandle, TaskRecord, Unreachable
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.errors import translate_error_info
from worker.hypervisor.xapi.records import Raw, result_ref, task_record, task_ref

LONGEST_POLL_SECONDS: Final = 30.0
FIRST_POLL_SECONDS: Final = 1.0
_RUNNING: Final = ("pending", "cancelling")


class TaskCalls:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def poll(self, task: TaskHandle) -> TaskRecord:
        ref = task_ref(task)
        return self._record(ref, self._calls.read("task.get_record", ref))

    def wait(self, task: TaskHandle, timeout: timedelta) -> TaskRecord:
        raw = self._succeeded(task, timeout)
        return self._record(task_ref(task), raw)

    def cancel(self, task: TaskHandle) -> None:
        self._calls.call("task.cancel", task_ref(task))

    def forget(self, task: TaskHandle) -> None:
        try:
            self._calls.call("task.destroy", task_ref(task))
        except Gone:
            return

    def wait_for_ref(self, task: TaskHandle, timeout: timedelta) -> str:
        """Wait for a call that makes an object; the object's reference."""
        made = result_ref(str(self._succeeded(task, timeout)["result"]))
        if made is None:
            raise Gone("gone")
        return made

    def _succeeded(self, task: TaskHandle, timeout: timedelta) -> Raw:
        raw = self._until_finished(task_ref(task), time.monotonic() + timeout.total_seconds())
        self.forget(task)
        if raw["status"] != "success":
            error = translate_error_info(raw["error_info"] or ["TASK_CANCELLED"])
            raise error from error.__cause__
        return raw

    def until_finished(self, task: TaskHandle, timeout: timedelta) -> None:
        """Wait for its end, whatever that is, and leave it as it is: it may be someone else's."""
        self._until_finished(task_ref(task), time.monotonic() + timeout.total_seconds())

    def _until_finished(self, ref: str, deadline: float) -> Raw:
        """The task's record once it has ended. Raises Gone, Unreachable."""
        token, patience = "", FIRST_POLL_SECONDS
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unreachable("task_still_running", may_have_happened=True)
            answer = self._events(ref, token, min(left, patience))
            state = _last_state(answer)
            if state is None:
                # Nothing said of it: either nothing changed or it is not there any more.
                state = self._calls.read("task.get_record", ref)
            if state["status"] not in _RUNNING:
                return state
            token, patience = answer["token"], LONGEST_POLL_SECONDS

    def _events(self, ref: str, token: str, seconds: float) -> Any:
        session = self._calls.session
        return session.long_poll(
            "event.from", [f"task/{ref}"], token, float(seconds), timeout=seconds + session.timeout
        )

    def _record(self, ref: str, raw: Raw) -> TaskRecord:
        kind = str(raw["name_label"]).removeprefix("Async.").partition(".")[0]

        def resolve(_: str, made: str) -> UUID | None:
            # Not every task makes an object of the class it was called on.
            return self._calls.resolve(kind if kind in _MAKERS else "*", made)

        return task_record(ref, raw, resolve)


_MAKERS: Final = frozenset({"VM", "VDI", "VBD", "VIF", "network", "SR"})


def _last_state(answer: Any) -> Raw | None:
    state: Raw | None = None
    for event in answer["events"]:
        if event["operation"] == "del":
            raise Gone("gone")
        if event.get("snapshot"):
            state = event["snapshot"]
    return state
