"""What the tests of workflows stand on: time that passes at once, and a hypervisor that fails on order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from django.db.models.functions import Now

from hosting.fleet.models import Pool
from hosting.operations.choices import ENDED
from hosting.operations.models import Operation
from worker import engine
from worker.hypervisor.port import HypervisorError
from worker.lease import Note
from worker.workflow import Workflow

Fault = Callable[[int, str], HypervisorError | None]
"""(number of the call, its name) → what it fails with, if it does."""


def never(number: int, name: str) -> None:
    return None


def once_named(name: str, error: HypervisorError) -> Fault:
    """The first call of that name fails."""
    left = [error]
    return lambda _number, called: left.pop() if called == name and left else None


@dataclass
class Faulty:
    """Any hypervisor, with calls counted and failing on order: before they act, or after."""

    real: Any
    before: Fault = never
    after: Fault = never
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.real, name)
        if not callable(real):
            return real

        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if error := self.before(number, name):
                raise error
            answer = real(*args, **kwargs)
            if error := self.after(number, name):
                raise error
            return answer

        return call


def to(hypervisor: Any) -> engine.Connect:
    """Connects every pool to this one. A step that has none is at the wrong place."""

    def connect(pool: Pool) -> Any:
        assert isinstance(pool, Pool)
        return hypervisor

    return connect


def let_time_pass() -> None:
    """All waits, backoffs and leases are over."""
    Operation.objects.active().update(run_at=Now(), leased_until=Now(), dispatched_until=Now())


def run_to_end(operation: Operation, hypervisor: Any, *, limit: int = 60) -> Operation:
    """Advance it, and whatever it spawned, until it has ended."""
    for _ in range(limit):
        let_time_pass()
        for uuid in (
            Operation.objects.active().order_by("created_at").values_list("uuid", flat=True)
        ):
            engine.advance(uuid, to(hypervisor))
        operation.refresh_from_db()
        if operation.state in ENDED:
            return operation
    raise AssertionError(
        f"stuck at {operation.step}: {operation.trouble} {operation.detail}\n"
        + "\n".join(event.private for event in operation.events.all())
    )


@contextmanager
def killed_before_committing(step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The worker dies once, when `step` has acted and its outcome is about to be written."""
    real, killed = engine._write, list[str]()

    def write(operation: Operation, note: Note | None = None, **changes: Any) -> None:
        if operation.step == step and not killed:
            killed.append(step)
            raise SystemExit
        real(operation, note, **changes)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_write", write)
        yield killed


@contextmanager
def remote_steps_run_twice(workflow: Workflow[Any]) -> Iterator[None]:
    """Each remote step acts two times before it is committed once."""
    once = dict(workflow.steps)
    for name, step in once.items():
        if step.is_remote:
            workflow.steps[name] = replace(step, run=_twice(step.run))
    try:
        yield
    finally:
        workflow.steps.update(once)


def _twice(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def act(*args: Any) -> Any:
        run(*args)
        return run(*args)

    return act
