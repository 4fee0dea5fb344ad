"""The grammar: what a workflow may be made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from hosting.fleet.models import Host, Pool
from hosting.operations.choices import KINDS
from worker import workflows  # noqa: F401  # registers them
from worker.workflow import Done, Facts, Next, Outcome, Workflow, own_pool


@pytest.fixture
def workflow() -> Iterator[Workflow[Host]]:
    """One that is forgotten again."""
    yield Workflow[Host]("test.grammar", subject="host", first="begin")
    del Workflow.registry["test.grammar"]


def begin(host: Host, facts: Facts) -> Outcome:
    return Done()


def act(host: Host, facts: Facts, hypervisor: Any) -> Outcome:
    return Done()


def test_steps_know_where_they_may_run(workflow: Workflow[Host]) -> None:
    workflow.ledger(begin)
    workflow.remote(can_turn_back=False)(act)
    assert {name: (s.is_remote, s.can_turn_back, s.name) for name, s in workflow.steps.items()} == {
        "begin": (False, True, "begin"),
        "act": (True, False, "act"),
    }


def test_a_step_stays_the_function_that_it_was(workflow: Workflow[Host]) -> None:
    assert workflow.ledger(begin) is begin
    assert workflow.remote(act) is act


def test_two_steps_of_one_name_are_refused(workflow: Workflow[Host]) -> None:
    workflow.ledger(begin)
    with pytest.raises(ValueError, match="two steps named begin"):
        workflow.ledger(can_turn_back=False)(begin)


@pytest.mark.parametrize("role", ["first", "undo", "no_room"])
def test_a_step_that_is_named_must_exist(workflow: Workflow[Host], role: str) -> None:
    workflow.ledger(begin)
    workflow.check()
    setattr(workflow, role, "nowhere")
    with pytest.raises(ValueError, match=f"'nowhere' as {role}"):
        workflow.check()


def test_facts_are_json_with_uuids_as_text() -> None:
    uuid = UUID(int=1)
    assert Next(begin, host=uuid, plan={"a": [1]}, n=2).facts == {
        "host": str(uuid),
        "plan": {"a": [1]},
        "n": 2,
    }


def test_the_pool_of_a_pool_is_itself() -> None:
    pool = Pool(name="p")
    assert own_pool(pool) is pool
    assert own_pool(Host(pool=pool)) is pool


def test_the_web_tier_knows_each_kind_that_there_is() -> None:
    ours = {kind for kind, workflow in Workflow.registry.items() if _is_ours(workflow)}
    assert ours == set(KINDS)


def _is_ours(workflow: Workflow[Any]) -> bool:
    """Not one that only tests know."""
    first = workflow.steps[workflow.first].run
    return first.__module__.startswith("worker.workflows.")
