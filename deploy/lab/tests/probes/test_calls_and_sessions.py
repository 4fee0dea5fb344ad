"""What comes before a call's meaning: names, arities, types, references, sessions, JSON-RPC."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from XenAPI import XenAPI

from deploy.lab.tests.probes.scenario import Played, Pool, Step, each_line, play, probe
from deploy.lab.tests.vms import error_of

STEPS: list[Step] = [
    "`VM.frobnicate()` → **['MESSAGE_METHOD_UNKNOWN', 'VM.frobnicate']**",
    "`VM.start('a',)` → **['MESSAGE_PARAMETER_COUNT_MISMATCH', 'VM.start', '3', '1']**",
    "`VM.get_record('OpaqueRef:x',)` → **['HANDLE_INVALID', 'VM', 'OpaqueRef:x']**",
    "`VM.get_by_uuid('nope',)` → **['UUID_INVALID', 'VM', 'nope']**",
    "`VM.get_by_name_label('nobody',)` → []",
    "`VM.set_name_label('<template>', 17)` → **['INTERNAL_ERROR', 'Failure']**",
    "`VM.set_VCPUs_max('<template>', 'abc')` → **['INTERNAL_ERROR', 'Failure']**",
    "`VM.set_is_a_template('<template>', 'yes')` → **['INTERNAL_ERROR', 'Failure']**",
]


@pytest.fixture(scope="module")
def pool(make_pool: Callable[..., Pool]) -> Pool:
    return make_pool(2)


@pytest.fixture(scope="module")
def played(pool: Pool) -> Played:
    return play(pool, STEPS)


@each_line(STEPS)
def test_a_call_that_is_none_is_answered_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said


def client(pool: Pool, host: int = 0) -> XenAPI.Session:
    return XenAPI.Session(pool.lab.urls[host], ignore_ssl=True)


def post_json(pool: Pool, body: dict[str, Any]) -> Any:
    connection = HTTPConnection(urlsplit(pool.lab.url).netloc, timeout=10)
    try:
        connection.request("POST", "/jsonrpc", json.dumps(body))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def login(password: str, **members: Any) -> dict[str, Any]:
    call = {"id": 1, "method": "session.login_with_password"}
    return call | {"params": ["root", password, "2.21", "j"]} | members


@probe("login on a pool member →")
def test_a_member_names_the_coordinator(pool: Pool) -> None:
    member = client(pool, 1)
    answer = error_of(member.login_with_password, "root", pool.lab.password, "2.21", "t")
    member("close")()
    assert answer == ["HOST_IS_SLAVE", pool.known["<address:h1>"]]


@probe("call with a logged-out session →", "call with a made-up session →", "raw success reply →")
def test_a_raw_reply_is_a_status_and_its_value_or_its_error(pool: Pool) -> None:
    server = client(pool)
    opened = server.session.login_with_password("root", pool.lab.password, "2.21", "t")
    assert opened.keys() == {"Status", "Value"}
    session = opened["Value"]
    assert server.session.logout(session) == {"Status": "Success", "Value": ""}
    for gone in (session, "OpaqueRef:foo"):
        refused = {"Status": "Failure", "ErrorDescription": ["SESSION_INVALID", gone]}
        assert server.VM.get_all(gone) == refused
    server("close")()


@probe("raw system.listMethods →")
def test_all_methods_of_this_release_are_listed(pool: Pool) -> None:
    server = client(pool)
    listed = server.system.listMethods()
    server("close")()
    assert len(listed["Value"]) == 2202


@probe('POST /jsonrpc {"jsonrpc": "2.0", "id": 1')
def test_json_rpc_2_answers_with_its_version(pool: Pool) -> None:
    answer = post_json(pool, login(pool.lab.password, jsonrpc="2.0"))
    session = answer.pop("result")
    assert session.startswith("OpaqueRef:")
    assert answer == {"jsonrpc": "2.0", "id": 1}


@probe('POST /jsonrpc {"id": 1')
def test_json_rpc_1_answers_an_error_beside_an_empty_result(pool: Pool) -> None:
    assert post_json(pool, login("bad")) == {
        "result": None,
        "error": ["SESSION_AUTHENTICATION_FAILED", "root", "Authentication failure"],
        "id": 1,
    }


@probe('POST /jsonrpc {"jsonrpc": "2.0", "id": 2')
def test_json_rpc_2_answers_an_error_with_the_code_as_its_message(pool: Pool) -> None:
    assert post_json(pool, login("bad", jsonrpc="2.0", id=2)) == {
        "jsonrpc": "2.0",
        "error": {
            "code": 1,
            "message": "SESSION_AUTHENTICATION_FAILED",
            "data": ["root", "Authentication failure"],
        },
        "id": 2,
    }
