"""The lab answers as the recorded daemon did.

The recordings are read from ../shared/xapi/recordings, or from where BULKHEAD_XAPI_RECORDINGS
says; without them these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.lab.replay import report
from deploy.lab.replay.accepted import ACCEPTED
from deploy.lab.replay.places import Difference
from deploy.lab.replay.player import Player, ScenarioResult, StepResult
from deploy.lab.replay.pools import fresh_lab
from deploy.lab.replay.recording import load_all

ROOT = Path(__file__).parents[3]
RECORDINGS = Path(
    os.environ.get("BULKHEAD_XAPI_RECORDINGS", ROOT.parent / "shared" / "xapi" / "recordings")
)
GOAL = 0.98

needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(),
    reason=f"no recordings in {RECORDINGS}; set BULKHEAD_XAPI_RECORDINGS to replay some",
)


@pytest.fixture(scope="module")
def results() -> list[ScenarioResult]:
    played = []
    for recording in load_all(RECORDINGS):
        with fresh_lab() as pool:
            played.append(Player(recording, pool).play())
    return played


@needs_recordings
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nearly_every_step_agrees(results: list[ScenarioResult]) -> None:
    assert report.summary(results)["ratio"] >= GOAL


@needs_recordings
@pytest.mark.slow
def test_every_remaining_difference_is_known(results: list[ScenarioResult]) -> None:
    surprises = [
        f"{scenario} {step.index} {step.call}: {report.describe(difference)}"
        for scenario, step in report.unexplained(results)
        for difference in step.differences
    ]
    assert surprises == []


@needs_recordings
@pytest.mark.slow
def test_nothing_known_has_been_mended_unnoticed(results: list[ScenarioResult]) -> None:
    steps = {(r.scenario, s.index): s for r in results for s in r.steps}
    stale = [e for e in ACCEPTED if not e.sometimes and steps[e.scenario, e.step].agrees]
    assert stale == []


def test_every_known_difference_has_a_reason_and_a_place() -> None:
    places = [(entry.scenario, entry.step) for entry in ACCEPTED]
    assert len(set(places)) == len(places)
    assert all(len(entry.reason) > 20 and entry.paths for entry in ACCEPTED)


def test_a_difference_elsewhere_in_a_known_step_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from deploy.lab.replay import accepted

    entry = accepted.Accepted("s", "3", ("result.a",), "The daemon under it was simulated.")
    monkeypatch.setattr(accepted, "ACCEPTED", (entry,))
    step = StepResult("3", "x", [Difference("result.a.b", 1, 2)])
    assert accepted.reason_for("s", step) == entry.reason
    step.differences.append(Difference("result.c", 1, 2))
    assert accepted.reason_for("s", step) is None
