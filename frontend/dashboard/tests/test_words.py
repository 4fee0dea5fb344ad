"""Whatever workers do has a word for people."""

from __future__ import annotations

import pytest

from frontend.dashboard.words import CANCELLABLE, KINDS, STATES, STEPS, actor, tell
from hosting.operations.choices import State, What
from hosting.operations.models import Operation, OperationEvent
from worker.workflow import Workflow
from worker.workflows import *  # noqa: F403  # registers them

OF_TENANTS = {
    kind: workflow
    for kind, workflow in Workflow.registry.items()
    if workflow.subject in ("instance", "image") and not kind.startswith("test")
}


def test_each_kind_and_step_of_a_tenants_workflows_has_its_words() -> None:
    assert {kind: set(steps) for kind, steps in STEPS.items()} == {
        kind: set(workflow.steps) for kind, workflow in OF_TENANTS.items()
    }
    assert set(KINDS) == set(OF_TENANTS)


def test_what_tenants_may_cancel_has_a_way_back() -> None:
    assert all(OF_TENANTS[kind].undo is not None for kind in CANCELLABLE)


def test_each_state_has_its_words() -> None:
    assert set(STATES) == set(State)


@pytest.mark.parametrize(
    ("requested_by", "words"),
    [
        ("user:alice", "alice"),
        ("user:olga", "somebody outside the tenant"),
        ("token:bh_ab", "the API token bh_ab…"),
        ("system:reconcile", "Bulkhead itself"),
        ("host.recover", "Bulkhead itself"),
    ],
)
def test_who_asked_is_named_if_they_belong_here(requested_by: str, words: str) -> None:
    assert actor(requested_by, {"alice"}) == words


@pytest.mark.parametrize(
    ("what", "message", "text", "tone"),
    [
        (What.REQUESTED, "by user:alice", "Asked for by alice", "idle"),
        (What.STEP, "", "Begins to move it, while it runs", "idle"),
        (What.WAITING, "No room.", "No room.", "busy"),
        (What.RETRYING, "It is busy.", "It is busy.", "bad"),
        (What.TURNED_BACK, "It was refused.", "Turned back. It was refused.", "bad"),
        (What.CANCEL_REQUESTED, "by user:alice", "Cancellation asked for by alice", "idle"),
        (
            What.SUPERSEDE_REQUESTED,
            "by instance.teardown, user:alice",
            "Delete asked for instead by alice",
            "idle",
        ),
        (What.SPAWNED, "", "Goes on", "idle"),
        (What.ENDED, "succeeded", "Done", "good"),
        (What.ENDED, "It was refused.", "Ended. It was refused.", "bad"),
        (What.ENDED, "superseded", "Ended, since something else was asked for", "idle"),
        (
            What.ENDED,
            "superseded by host.recover",
            "Ended, since something more urgent took it over",
            "idle",
        ),
    ],
)
def test_a_line_of_the_journal_is_told_to_people(
    what: What, message: str, text: str, tone: str
) -> None:
    operation = Operation(kind="instance.migrate", requested_by="t")
    event = OperationEvent(
        operation=operation, what=what, step="move", message=message, private="never"
    )
    told = tell(event, {"alice"})
    assert (told.about, told.text, told.tone) == ("Move", text, tone)
