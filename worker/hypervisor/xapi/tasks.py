"""Long calls: XAPI's tasks, awaited by events of their own (xapi_task.ml, xapi_event.ml).

A task is forgotten by the pool when it restarts, an hour after its end, or earlier when more than 200
exist; hence results are read at once and tasks we have read are destroyed. What a forgotten one did is
read from its object.
"""

import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from worker.hypervisor.port import (
    Gone,
    HypervisorError,
    TaskHandle,
    TaskRecord,
    Unreachable,
    UntranslatedFailure,
)
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

    def refs_as_made(
        self, tasks: Collection[TaskHandle], timeout: timedelta
    ) -> Iterator[tuple[TaskHandle, str | Exception]]:
        """Calls that each make an object, as they end: its reference, or what the call failed with.

        One that goes on after `timeout` is told by Unreachable("task_still_running"), last.
        """
        handles = {task_ref(task): task for task in tasks}
        deadline = time.monotonic() + timeout.total_seconds()
        for ref, ended in self._as_finished(handles, deadline):
            yield handles[ref], self._made(handles[ref], ended)

    def _made(self, task: TaskHandle, ended: Raw | HypervisorError) -> str | Exception:
        if isinstance(ended, HypervisorError):
            return ended
        try:
            self.forget(task)
            made = result_ref(str(_success(ended)["result"]))
        except (HypervisorError, UntranslatedFailure) as error:
            return error
        return made if made is not None else Gone("gone")

    def _succeeded(self, task: TaskHandle, timeout: timedelta) -> Raw:
        raw = self._until_finished(task_ref(task), time.monotonic() + timeout.total_seconds())
        self.forget(task)
        return _success(raw)

    def until_finished(self, task: TaskHandle, timeout: timedelta) -> None:
        """Wait for its end, whatever that is, and leave it as it is: it may be someone else's."""
        self._until_finished(task_ref(task), time.monotonic() + timeout.total_seconds())

    def _until_finished(self, ref: str, deadline: float) -> Raw:
        """The task's record once it has ended. Raises Gone, Unreachable."""
        ((_, ended),) = self._as_finished([ref], deadline)
        if isinstance(ended, HypervisorError):
            raise ended
        return ended

    def _as_finished(
        self, refs: Collection[str], deadline: float
    ) -> Iterator[tuple[str, Raw | HypervisorError]]:
        """Each task's record once it has ended; Gone, Unreachable for those of which none is known."""
        missing, token, patience = list(refs), "", FIRST_POLL_SECONDS
        while missing:
            left = deadline - time.monotonic()
            if left <= 0:
                late = Unreachable("task_still_running", may_have_happened=True)
                yield from ((ref, late) for ref in missing)
                return
            try:
                answer = self._events(missing, token, min(left, patience))
                states = _last_states(answer)
                if not states or not token:
                    # Nothing said of them: either nothing changed or they are not there any more.
                    states |= {ref: self._state(ref) for ref in missing if ref not in states}
            except HypervisorError as error:
                yield from ((ref, error) for ref in missing)
                return
            ended = {ref: states[ref] for ref in missing if ref in states and _is_end(states[ref])}
            missing = [ref for ref in missing if ref not in ended]
            yield from ended.items()
            token, patience = answer["token"], LONGEST_POLL_SECONDS

    def _state(self, ref: str) -> Raw | Gone:
        try:
            state: Raw = self._calls.read("task.get_record", ref)
        except Gone as gone:
            return gone
        return state

    def _events(self, refs: Collection[str], token: str, seconds: float) -> Any:
        session = self._calls.session
        return session.long_poll(
            "event.from",
            [f"task/{ref}" for ref in refs],
            token,
            float(seconds),
            timeout=seconds + session.timeout,
        )

    def _record(self, ref: str, raw: Raw) -> TaskRecord:
        kind = str(raw["name_label"]).removeprefix("Async.").partition(".")[0]

        def resolve(_: str, made: str) -> UUID | None:
            # Not every task makes an object of the class it was called on.
            return self._calls.resolve(kind if kind in _MAKERS else "*", made)

        return task_record(ref, raw, resolve)


_MAKERS: Final = frozenset({"VM", "VDI", "VBD", "VIF", "network", "SR"})


def _last_states(answer: Any) -> dict[str, Raw | Gone]:
    states: dict[str, Raw | Gone] = {}
    for event in answer["events"]:
        if event["operation"] == "del":
            states[event["ref"]] = Gone("gone")
        elif event.get("snapshot"):
            states[event["ref"]] = event["snapshot"]
    return states


def _is_end(state: Raw | Gone) -> bool:
    return isinstance(state, Gone) or state["status"] not in _RUNNING


def _success(raw: Raw) -> Raw:
    """Raises what the task failed with, translated."""
    if raw["status"] != "success":
        error = translate_error_info(raw["error_info"] or ["TASK_CANCELLED"])
        raise error from error.__cause__
    return raw
