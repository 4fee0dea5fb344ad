"""How long sessions last, and how many there may be (XAPI.md 1.2)."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterator
from contextlib import closing

import pytest

from deploy.lab.sessions import PER_ORIGINATOR, WITHOUT_ORIGINATOR, Account
from deploy.lab.testing import RunningLab, running_lab

DAY = 24 * 3600.0
COLLECTED = 31.0
"""Seconds until the collector has passed."""


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    accounts = {"clerk": Account("secret", "vm-admin")}
    with running_lab(1, tls=False, rate=0.0, accounts=accounts) as running:
        yield running


class Client:
    def __init__(self, lab: RunningLab, server: xmlrpc.client.ServerProxy) -> None:
        self.lab = lab
        self.server = server

    def login(self, originator: str = "", user: str = "root", password: str = "") -> str:
        password = password or self.lab.password
        answer = self.server.session.login_with_password(user, password, "", originator)
        return str(answer["Value"])  # type: ignore[index,call-overload]

    def error(self, session: str) -> list[str]:
        """What a call with the session is refused with; nothing when it is not."""
        answer = self.server.pool.get_all(session)
        return list(answer.get("ErrorDescription", []))  # type: ignore[union-attr]

    def lives(self, session: str) -> bool:
        return not self.error(session)


@pytest.fixture
def client(lab: RunningLab) -> Iterator[Client]:
    with closing(_Connection(lab.url)) as connection:
        yield Client(lab, connection.server)


class _Connection:
    def __init__(self, url: str) -> None:
        self.server = xmlrpc.client.ServerProxy(url)

    def close(self) -> None:
        self.server("close")()


def test_a_session_that_nobody_used_for_a_day_is_invalid(client: Client) -> None:
    session = client.login()
    client.lab.clock.advance(DAY - 60.0)
    client.login()
    client.lab.clock.advance(60.0 + COLLECTED)
    assert client.error(session) == ["SESSION_INVALID", session]


def test_a_session_in_use_outlives_the_day(client: Client) -> None:
    session = client.login()
    client.lab.clock.advance(DAY - 60.0)
    assert client.lives(session)
    client.lab.clock.advance(DAY - 60.0)
    assert client.lives(session)


def test_use_is_noted_every_ten_minutes_only(client: Client) -> None:
    session = client.login()
    client.lab.clock.advance(500.0)
    assert client.lives(session)
    client.lab.clock.advance(DAY - 500.0 + COLLECTED)
    assert not client.lives(session)


@pytest.mark.parametrize(
    ("limit", "login"),
    [
        (PER_ORIGINATOR, {"originator": "plane"}),
        (WITHOUT_ORIGINATOR, {}),
        (PER_ORIGINATOR, {"user": "clerk", "password": "secret"}),
    ],
)
def test_above_the_limit_the_longest_unused_sessions_go(
    client: Client, limit: int, login: dict[str, str]
) -> None:
    stranger = client.login("another")
    first = client.login(**login)
    client.lab.clock.advance(1.0)
    others = [client.login(**login) for _ in range(limit)]
    client.lab.clock.advance(COLLECTED)
    assert [client.lives(session) for session in (first, others[0], others[-1], stranger)] == [
        False,
        True,
        True,
        True,
    ]


def test_a_session_with_a_pending_task_stays(client: Client) -> None:
    idle, busy = client.login(), client.login()
    client.lab.clock.advance(500.0)
    client.server.task.create(busy, "work", "")
    client.lab.clock.advance(DAY - 500.0 + COLLECTED)
    assert client.lives(busy)
    assert not client.lives(idle)
