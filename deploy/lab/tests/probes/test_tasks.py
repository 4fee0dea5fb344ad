"""Tasks: how they end, what may be done with them, what waits for what."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from XenAPI import XenAPI

from deploy.lab.tests.probes.conftest import RATE
from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def start_a(pool: Pool) -> None:
    pool.make_whole("a")
    pool.api.VM.start_on(pool["a"], pool["h1"], False, False)


def ended_task(pool: Pool) -> dict[str, object]:
    pool.finish(pool["task"])
    record = pool.api.task.get_record(pool["task"])
    shown = ("name_label", "allowed_operations", "status", "progress", "type", "result")
    return {name: record[name] for name in (*shown, "error_info")}


def failed(pool: Pool) -> bool:
    return ended_task(pool) == {
        "name_label": "Async.VM.start",
        "allowed_operations": [],
        "status": "failure",
        "progress": 1.0,
        "type": "<none/>",
        "result": "",
        "error_info": ["VM_BAD_POWER_STATE", pool["a"], "halted", "running"],
    }


def own_task(pool: Pool) -> dict[str, object]:
    record = pool.api.task.get_record(pool["mine"])
    for field in ("uuid", "created"):
        assert record.pop(field)
    record["finished"] = record["finished"].value
    record["resident_on"] = pool.names[record["resident_on"]]
    return dict(record)


MINE = {
    "name_label": "mine",
    "name_description": "d",
    "allowed_operations": [],
    "current_operations": {},
    "finished": "19700101T00:00:00Z",
    "status": "success",
    "resident_on": "h1",
    "progress": 0.5,
    "type": "<none/>",
    "result": "",
    "error_info": [],
    "other_config": {},
    "subtask_of": "OpaqueRef:NULL",
    "subtasks": [],
    "backtrace": "()",
}


def reboot_task(pool: Pool) -> tuple[str, list[str]]:
    return pool.finish(pool["reboot"]), pool.api.task.get_error_info(pool["reboot"])


def migrate_beside_suspend(pool: Pool) -> tuple[list[object], str]:
    """A suspend while the migration is under way; both answers and the state after them."""
    pool.hurry(0)
    with ThreadPoolExecutor(2) as clients:
        move: tuple[object, ...] = (pool["a"], pool["h2"], {})
        answers = [clients.submit(_call_alone, pool, "VM.pool_migrate", move)]
        while not pool.api.VM.get_current_operations(pool["a"]):
            assert not answers[0].done()
        answers.append(clients.submit(_call_alone, pool, "VM.suspend", (pool["a"],)))
        pool.hurry(RATE)
        given = [answer.result(30) for answer in answers]
    return given, pool.state(pool["a"])


def _call_alone(pool: Pool, method: str, arguments: tuple[object, ...]) -> object:
    session = XenAPI.Session(pool.lab.url, ignore_ssl=True)
    session.login_with_password("root", pool.lab.password, "2.21", "t")
    try:
        return session.xenapi_request(method, arguments)
    finally:
        session("close")()


STEPS: list[Step] = [
    start_a,
    "`Async.VM.start('<a>', False, False)` → <task>",
    Look("{'name_label': 'Async.VM.start', 'allowed_operations': []", failed, True),
    "`task.cancel('<task>',)` → ",
    "`task.destroy('<task>',)` → ",
    "`task.create('mine', 'd')` → <mine>",
    "`task.set_progress('<mine>', 0.5)` → ",
    "`task.set_status('<mine>', 'success')` → ",
    Look("`task.get_record('<>',)`", own_task, MINE),
    "`task.cancel('<mine>',)` → ",
    "`task.destroy('<mine>',)` → ",
    "`Async.VM.clean_reboot('<a>',)` → <reboot>",
    "`VM.hard_reboot('<a>',)` [concurrent with clean_reboot] → ",
    Look("clean_reboot task success []", reboot_task, ("success", [])),
    "`task.destroy('<reboot>',)` → ",
    Look(
        "concurrent pool_migrate and suspend → [('ok', ''), ('ok', (None, ''))] Suspended",
        migrate_beside_suspend,
        (["", ""], "Suspended"),
    ),
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_tasks_end_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
