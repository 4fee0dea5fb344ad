"""event.from: what a token returns, and what wakes it."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from XenAPI import XenAPI

from deploy.lab.tests.probes.conftest import RATE
from deploy.lab.tests.probes.scenario import Pool, probe
from deploy.lab.tests.vms import error_of

TOKEN = re.compile(r"\d{20},\d{20}")
ZERO = "0" * 20
_versions = itertools.count(1)


@pytest.fixture(scope="module")
def pool(make_pool: Callable[..., Pool]) -> Pool:
    pool = make_pool(2)
    pool.make("a")
    return pool


def changes(pool: Pool, classes: list[str], token: str, timeout: float = 1.0) -> Any:
    return getattr(pool.api.event, "from")(classes, token, timeout)


def now(pool: Pool) -> str:
    """The token of this moment.

    A first call's token is as old as the latest change of what is still there, so a deletion after
    that would be told again: hence the write (fold_over_deleted of db_cache_types.ml).
    """
    pool.api.VM.set_user_version(pool["a"], str(next(_versions)))
    return str(changes(pool, ["VM"], "")["token"])


def told(answer: Any) -> list[tuple[str, str, bool]]:
    """Operation, class, and whether there is a snapshot, of each event."""
    return [(e["operation"], e["class"], "snapshot" in e) for e in answer["events"]]


def seconds(pool: Pool, call: Callable[[], Any]) -> tuple[float, Any]:
    """How long the call takes, in lab time, and its answer."""
    before = pool.lab.clock.now()
    answer = call()
    return pool.lab.clock.now() - before, answer


@probe('event.from([VM],"",1.0) keys')
def test_the_first_call_adds_every_object_and_counts_all_classes(pool: Pool) -> None:
    answer = changes(pool, ["VM"], "")
    assert sorted(answer) == ["events", "token", "valid_ref_counts"]
    assert {e["ref"] for e in answer["events"]} == set(pool.api.VM.get_all())
    assert TOKEN.fullmatch(answer["token"])
    assert answer["token"].endswith(ZERO)
    counts = answer["valid_ref_counts"]
    assert {name: counts[name] for name in ("vdi_nbd_server_info", "user", "tunnel")} == {
        "vdi_nbd_server_info": 0,
        "user": 1,
        "tunnel": 0,
    }
    first = answer["events"][0]
    assert sorted(first) == ["class", "id", "operation", "ref", "snapshot", "timestamp"]
    assert (first["timestamp"], first["class"], first["operation"]) == ("0.0", "vm", "add")
    assert first["id"].isdigit()


@probe("nothing new, timeout 1.5 →")
def test_nothing_new_is_told_when_the_time_is_up_with_the_same_token(pool: Pool) -> None:
    token = now(pool)
    took, answer = seconds(pool, lambda: changes(pool, ["VM"], token, 1.5))
    assert took >= 1.5
    assert (answer["events"], answer["token"]) == ([], token)


@probe("after two field writes →")
def test_two_writes_are_one_change(pool: Pool) -> None:
    token = now(pool)
    pool.api.VM.set_name_description(pool["a"], "changed")
    pool.api.VM.set_name_label(pool["a"], "renamed")
    answer = changes(pool, ["VM"], token)
    assert told(answer) == [("mod", "vm", True)]
    assert answer["token"] > token


@probe(
    "after a snapshot →", "after destroy →", "from the older token (object created and destroyed"
)
def test_a_snapshot_comes_with_a_change_of_its_vm_and_goes_with_another(pool: Pool) -> None:
    first = now(pool)
    snapshot = pool.api.VM.snapshot(pool["a"], "s")
    answer = changes(pool, ["VM"], first)
    assert told(answer) == [("add", "vm", True), ("mod", "vm", True)]
    assert [e["ref"] for e in answer["events"]] == [snapshot, pool["a"]]
    pool.api.VM.destroy(snapshot)
    after = changes(pool, ["VM"], answer["token"])
    assert told(after) == [("mod", "vm", True), ("del", "vm", False)]
    assert [e["ref"] for e in after["events"]] == [pool["a"], snapshot]
    assert told(changes(pool, ["VM"], first)) == [("mod", "vm", True)]


@probe("event.from(['nope'],'',0.5)")
@probe("event.from([],'',0.5)")
@pytest.mark.parametrize("classes", [["nope"], []])
def test_a_class_that_is_not_there_waits_for_nothing(pool: Pool, classes: list[str]) -> None:
    took, answer = seconds(pool, lambda: changes(pool, classes, "", 0.5))
    assert took >= 0.5
    assert (answer["events"], answer["token"]) == ([], f"{ZERO},{ZERO}")


@probe("event.from(['*'],'',0.5)")
def test_everything_is_told_at_once(pool: Pool) -> None:
    took, answer = seconds(pool, lambda: changes(pool, ["*"], "", 60.0))
    assert took < 60
    known = {e["class"] for e in answer["events"]}
    assert known >= {"pool", "host", "vm", "sr", "pbd", "network", "pif"}


@probe("event.from(['VM'],'garbage')")
def test_a_token_that_is_none_is_refused(pool: Pool) -> None:
    answer = error_of(getattr(pool.api.event, "from"), ["VM"], "garbage", 0.5)
    assert answer == ["EVENT_FROM_TOKEN_PARSE_FAILURE", "garbage"]


@probe("event.from(['VM'],'99999999,0',0.5)")
def test_a_token_of_the_future_waits(pool: Pool) -> None:
    took, answer = seconds(pool, lambda: changes(pool, ["VM"], "99999999,0", 0.5))
    assert took >= 0.5
    assert (answer["events"], answer["token"]) == ([], f"{99999999:020},{ZERO}")


@probe("logout {'Status': 'Success', 'Value': ''}", "logout while event.from blocks →")
def test_a_client_that_knows_its_password_does_not_notice_a_logout_while_it_waits(
    pool: Pool,
) -> None:
    pool.hurry(100)
    watcher = XenAPI.Session(pool.lab.url, ignore_ssl=True)
    watcher.login_with_password("root", pool.lab.password, "2.21", "t")
    token = now(pool)
    answers: list[Any] = []

    def watch() -> None:
        call = getattr(watcher.xenapi.event, "from")
        answers.append(seconds(pool, lambda: call(["VM"], token, 20.0)))

    waiting = threading.Thread(target=watch)
    waiting.start()
    raw = XenAPI.Session(pool.lab.url, ignore_ssl=True)
    logout = raw.session.logout(watcher._session)
    raw("close")()
    waiting.join(20)
    pool.hurry(RATE)
    watcher("close")()
    assert logout == {"Status": "Success", "Value": ""}
    took, answer = answers[0]
    assert took >= 20, answer["events"]
    assert answer["events"] == []
    assert answer["valid_ref_counts"]["user"] == 1


@probe("`event.register(['VM'],)", "`event.get_current_id()")
def test_the_old_calls_still_answer(pool: Pool) -> None:
    assert pool.api.event.register(["VM"]) == ""
    assert pool.api.event.get_current_id().isdigit()


@probe("`event.inject('VM', '<>')")
def test_an_injected_event_is_told_after_its_token(pool: Pool) -> None:
    token = pool.api.event.inject("VM", pool["a"])
    assert TOKEN.fullmatch(token)
    answer = changes(pool, ["VM"], token)
    assert [(e["operation"], e["ref"]) for e in answer["events"]] == [("mod", pool["a"])]
