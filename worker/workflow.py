"""The grammar of a workflow: named steps, each of which answers what comes next.

A step does one kind of thing. A *ledger* step reads and writes our rows, inside the transaction that
commits it, so it happens exactly once. A *remote* step calls the hypervisor, outside any transaction, and
may happen twice, so it is written as "find, else do". See docs/adding-a-workflow.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, overload
from uuid import UUID

from worker.hypervisor.port import Hypervisor

S = TypeVar("S")

Facts: TypeAlias = Mapping[str, Any]
"""What earlier steps found out: JSON values, UUIDs as text. Never a secret."""


class Next:
    """Go on to `step`, keeping `facts` for the steps after it.

    `after`: there is nothing to be seen yet; the step runs so much later, or sooner if woken.
    """

    def __init__(
        self, step: Callable[..., Outcome], *, after: timedelta | None = None, **facts: Any
    ) -> None:
        self.step = step.__name__
        self.after = after
        self.facts = {name: _plain(value) for name, value in facts.items()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


@dataclass(frozen=True, slots=True)
class Wait:
    """Run this same step again after `delay`, or sooner if woken. Not a failure.

    `reason` is shown to whoever waits for the operation: "no host has 4 GiB free".
    """

    delay: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spawn(Generic[S]):
    """Start `workflow` on each subject that has nothing under way, then wait as `Wait` does.

    `facts_of` gives each child what it should know from the start.
    """

    workflow: Workflow[S]
    subjects: Iterable[S]
    delay: timedelta
    reason: str = ""
    facts_of: Callable[[S], Facts] = lambda _: {}


@dataclass(frozen=True, slots=True)
class Done:
    """The operation reached its goal."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The operation gave up, and left nothing behind. At the end of a way back nothing need be said."""

    code: str = "failed"
    reason: str = ""


Outcome: TypeAlias = Next | Wait | Spawn[Any] | Done | Failed

LedgerStep: TypeAlias = Callable[[S, Facts], Outcome]
RemoteStep: TypeAlias = Callable[[S, Facts, Hypervisor], Outcome]


@dataclass(frozen=True, slots=True)
class Step:
    """`can_turn_back`: a refusal or a cancellation here leads to the workflow's way back."""

    run: Callable[..., Outcome]
    is_remote: bool
    can_turn_back: bool

    @property
    def name(self) -> str:
        return self.run.__name__


def own_pool(subject: Any) -> Any:
    """The pool whose hypervisor remote steps get: the subject's `pool`, or itself if it has none."""
    return getattr(subject, "pool", subject)


@dataclass(eq=False)
class Workflow(Generic[S]):
    """Steps over one subject, registered by decorators that say where they may run.

    `subject`   the column of Operation that it is about.
    `first`     the step it begins with.
    `undo`      the first step of its way back, taken on refusal and on cancellation; it must end in
                Failed. None: it only goes forward, and holds nothing that must be given back.
    `no_room`   the step to go to when a chosen place turns out full: gives it back and excludes it.
    `deadline`  after which a person is told. Nothing fails for being slow.
    `pool_of`   the Pool row whose hypervisor remote steps get.
    """

    kind: str
    subject: str
    first: str
    undo: str | None = None
    no_room: str | None = None
    deadline: timedelta | None = None
    pool_of: Callable[[S], Any] = own_pool
    steps: dict[str, Step] = field(default_factory=dict)

    registry: ClassVar[dict[str, Workflow[Any]]] = {}

    def __post_init__(self) -> None:
        if self.kind in Workflow.registry:
            raise ValueError(f"there are two workflows of kind {self.kind}")
        Workflow.registry[self.kind] = self

    @overload
    def ledger(self, step: LedgerStep[S], /) -> LedgerStep[S]: ...
    @overload
    def ledger(self, /, *, can_turn_back: bool) -> Callable[[LedgerStep[S]], LedgerStep[S]]: ...
    def ledger(
        self, step: LedgerStep[S] | None = None, /, *, can_turn_back: bool = True
    ) -> LedgerStep[S] | Callable[[LedgerStep[S]], LedgerStep[S]]:
        """Register a step over our rows: `step(subject, facts)`."""
        register: Any = self._registrar(is_remote=False, can_turn_back=can_turn_back)
        registered: LedgerStep[S] = register if step is None else register(step)
        return registered

    @overload
    def remote(self, step: RemoteStep[S], /) -> RemoteStep[S]: ...
    @overload
    def remote(self, /, *, can_turn_back: bool) -> Callable[[RemoteStep[S]], RemoteStep[S]]: ...
    def remote(
        self, step: RemoteStep[S] | None = None, /, *, can_turn_back: bool = True
    ) -> RemoteStep[S] | Callable[[RemoteStep[S]], RemoteStep[S]]:
        """Register a step over the hypervisor: `step(subject, facts, hypervisor)`.

        `can_turn_back=False` from the moment on that the goal cannot be taken back, e.g. while a
        migration runs: a refusal there is retried and told to a person, never undone.
        """
        register: Any = self._registrar(is_remote=True, can_turn_back=can_turn_back)
        registered: RemoteStep[S] = register if step is None else register(step)
        return registered

    def _registrar(self, *, is_remote: bool, can_turn_back: bool) -> Any:
        def register(run: Callable[..., Outcome]) -> Callable[..., Outcome]:
            if run.__name__ in self.steps:
                raise ValueError(f"{self.kind} has two steps named {run.__name__}")
            self.steps[run.__name__] = Step(run, is_remote, can_turn_back)
            return run

        return register

    def check(self) -> None:
        """Raises ValueError when a step is named that does not exist. After all are registered."""
        for role in ("first", "undo", "no_room"):
            name = getattr(self, role)
            if name is not None and name not in self.steps:
                raise ValueError(f"{self.kind} names {name!r} as {role}, but has no such step")
