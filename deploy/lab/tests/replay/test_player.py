"""Playing recordings: against a server that answers as recorded, all agrees; else it shows."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.replay.__main__ import main
from deploy.lab.replay.player import Player, ScenarioResult
from deploy.lab.replay.pools import RunningPool
from deploy.lab.replay.recording import Recording, load_all
from deploy.lab.replay.rules import PASSWORD
from deploy.lab.tests.replay.scripted import Alter, scripted
from deploy.lab.tests.test_recordings import RECORDINGS

TRIES = 3


class Hurried(RunningPool):
    """A pool whose clock runs fast, so that sleeping takes no time here."""

    rate = 20.0


def call(method: str, *args: Any, **more: Any) -> dict[str, Any]:
    return {"via": "xmlrpc", "host": "h1", "call": method, "args": ["<session>", *args], **more}


STEPS: list[dict[str, Any]] = [
    call("VM.create", {"name_label": "a"}, result="<VM:1>", seconds=0.0),
    call("VM.get_record", "<VM:1>", result={"uuid": "<uuid:VM:1>", "name_label": "a"}),
    call("VM.start", "<VM:1>", False, False, error=["VM_IS_TEMPLATE", "<VM:1>", "start"]),
    call("Async.VM.start", "<VM:1>", False, False, result="<task:1>"),
    {
        **call("task.get_status", "<task:1>"),
        "via": "wait",
        "until": ["success"],
        "result": "success",
    },
    {"via": "sleep", "seconds": 0.2},
    {**call("VM.get_all"), "via": "count", "count": 3},
    {
        "via": "parallel",
        "steps": [
            call("VM.pause", "<VM:1>", result="", at=0.0),
            call("VM.unpause", "<VM:1>", error=["OTHER_OPERATION_IN_PROGRESS", "VM"], at=0.1),
        ],
    },
    {
        "via": "follow",
        "classes": ["VM"],
        "jobs": [call("VM.set_name_label", "<VM:1>", "b", result="")],
        "batches": [
            {
                "after": 0.0,
                "events": [
                    {
                        "operation": "mod",
                        "class": "vm",
                        "ref": "<VM:1>",
                        "changed": {"name_label": "b"},
                    }
                ],
            }
        ],
    },
    {
        "via": "jsonrpc",
        "host": "h1",
        "call": "VM.get_VCPUs_max",
        "args": ["<session>", "<VM:1>"],
        "version": 2,
        "reply": {"jsonrpc": "2.0", "result": 1, "id": 1},
    },
    {
        "via": "http",
        "host": "h1",
        "request": "GET / HTTP/1.1\nHost: x\n\n",
        "response": {
            "status_line": "HTTP/1.1 403 Forbidden",
            "headers": ["content-length: 9", "connection: close"],
            "body": "forbidden",
            "body_bytes": 9,
            "end": "complete",
        },
    },
    call("VM.destroy", "<VM:1>", result=""),
    call("VDI.destroy", "<VDI:7>", result=""),
]
COUNTED = 14
"""Steps inside `parallel` and `follow` count, those themselves do not."""


def recording(*steps: dict[str, Any]) -> Recording:
    return Recording("small", "", ("<host:h1>", "<pool:pool>"), steps or tuple(STEPS))


def play(what: Recording, alter: Alter = lambda index, answer: answer) -> ScenarioResult:
    with scripted(what, alter) as url:
        urls = {f"h{n}": url for n in (1, 2, 3)}
        with closing(Hurried(urls, "root", PASSWORD)) as pool:
            return Player(what, pool).play()


def differing(result: ScenarioResult) -> dict[str, list[str]]:
    return {s.index: [d.path for d in s.differences] for s in result.steps if not s.agrees}


def test_what_is_answered_as_recorded_agrees_in_every_step() -> None:
    result = play(recording())
    assert differing(result) == {}
    assert (result.agree, len(result.steps)) == (COUNTED, COUNTED)


@pytest.mark.parametrize(
    ("index", "wrong", "path"),
    [
        ("1", {"uuid": "no uuid", "name_label": "a"}, "result.uuid"),
        ("2", ["VM_IS_TEMPLATE", "another", "start"], "error"),
        ("6", ["x"] * 4, "count"),
        ("7.0", "not void", "result"),
        ("7.1", ["OTHER_OPERATION_IN_PROGRESS", "VDI"], "error"),
        ("event <VM:1>", {"name_label": "c"}, "follow.vm <VM:1>.name_label"),
        ("9", '{"jsonrpc": "2.0", "result": "1", "id": 1}', "reply.result"),
    ],
)
def test_an_altered_answer_is_a_difference_of_its_step(index: str, wrong: Any, path: str) -> None:
    found = differing(play(recording(), lambda at, answer: wrong if at == index else answer))
    assert found == {"8.0" if index.startswith("event") else index: [path]}


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("status_line", "HTTP/1.1 404 Not Found"),
        ("headers", ["connection: close", "content-length: 9"]),
        ("body", "forbodden"),
    ],
)
def test_raw_answers_are_compared_part_by_part(part: str, wrong: Any) -> None:
    def alter(index: str, answer: Any) -> Any:
        return {**answer, part: wrong} if index == "10" else answer

    assert list(differing(play(recording(), alter))) == ["10"]


def test_a_kind_of_step_that_is_not_known_is_a_difference_and_the_next_is_played() -> None:
    result = play(recording({"via": "telepathy"}, call("VM.pause", "x", result="")))
    assert differing(result) == {"0": ["via"]}


def test_a_name_without_an_object_is_a_difference() -> None:
    result = play(
        recording(
            call("VM.pause", "x", result=""),
            call("blob.get_record", "<ref:1>", error=["HANDLE_INVALID"]),
        )
    )
    assert differing(result) == {"1": ["step"]}


def test_a_control_step_that_cannot_be_done_is_a_difference() -> None:
    result = play(recording({"via": "control", "do": "crash_host", "host": "h3"}))
    assert differing(result) == {"0": ["step"]}


def test_a_pool_that_nobody_answers_for_is_a_difference_of_every_step() -> None:
    pool = Hurried({"h1": "http://127.0.0.1:9"}, "root", PASSWORD)
    result = Player(recording(), pool).play()
    assert (result.agree, len(result.steps)) == (0, COUNTED)


def test_the_command_prints_differences_and_one_object_at_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = recording()
    content = {"scenario": "small", "pool": {"binds": what.binds}, "steps": what.steps}
    (tmp_path / "small.json").write_text(json.dumps(content))
    with scripted(what, lambda at, answer: ["x"] if at == "6" else answer) as url:
        options = [f"--url=h{n}={url}" for n in (1, 2, 3)]
        code = main([str(tmp_path), *options, "--password", PASSWORD])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0] == "small  13/14"
    assert lines[1].startswith("  6 VM.get_all: count: expected 3, got 1")
    assert json.loads(lines[-1]) == {"scenarios": 1, "steps": 14, "agree": 13, "ratio": 0.9286}


def test_a_directory_without_recordings_is_refused_with_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "No recordings" in capsys.readouterr().err


def _played_until_it_agrees(what: Recording) -> ScenarioResult:
    """Equal calls 50 ms apart come to the script the other way round when the machine is busy: thrice, then it is said."""
    for _ in range(TRIES):
        result = play(what)
        if result.agree == len(result.steps):
            break
    return result


@pytest.mark.slow
@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")
def test_every_recording_agrees_with_itself() -> None:
    """None of what the recordings hold is beyond the player, or taken for a difference."""
    results = [_played_until_it_agrees(what) for what in load_all(RECORDINGS)]
    assert {r.scenario: differing(r) for r in results if r.agree < len(r.steps)} == {}
