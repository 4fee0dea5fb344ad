"""XAPI's HTTP handlers: early answers, redirects inside the pool, bodies that end too soon."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from worker.hypervisor.port import Candidate, PoolConnection, Refused, Unreachable
from worker.hypervisor.xapi.rawhttp import Exchange, open_exchange
from worker.hypervisor.xapi.session import PoolSession
from worker.hypervisor.xapi.transfers import _pieces
from worker.tests.hypervisor.conftest import MakeHost
from worker.tests.hypervisor.servers import ScriptedHost

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
Get = Callable[..., Exchange]


@pytest.fixture
def get() -> Iterator[Get]:
    """GET from the first host, the others being of the pool too."""
    with ExitStack() as stack:

        def opened(*hosts: ScriptedHost, seconds: float = 5.0) -> Exchange:
            candidates = tuple(Candidate(host.address, host.certificate) for host in hosts)
            connection = PoolConnection("test", hosts[0].url, "root", "secret", candidates)
            session = PoolSession(connection)
            stack.callback(session.close)
            exchange = open_exchange(session, candidates[0], "GET", "/x", {"a": "b c"}, seconds)
            stack.callback(exchange.close)
            return exchange

        yield opened


def test_the_session_and_the_query_are_sent_in_the_target(host: ScriptedHost, get: Get) -> None:
    host.page = OK
    get(host)
    assert host.asked[-1] == ("GET", ("/x?session_id=OpaqueRef%3Asession-of-h1&a=b+c",))


def test_a_body_without_a_length_ends_with_the_connection(host: ScriptedHost, get: Get) -> None:
    host.page = OK + b"x" * 100_000
    assert get(host).read_all(1_000_000) == b"x" * 100_000


def test_a_body_with_a_length_ends_there(host: ScriptedHost, get: Get) -> None:
    host.page = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef"
    assert get(host).read_all(1_000) == b"abc"


def test_a_redirect_inside_the_pool_is_followed(make_host: MakeHost, get: Get) -> None:
    first, second = make_host("h1"), make_host("h2")
    location = f"https://{second.address}/x?moved=1"
    first.page = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode()
    second.page = OK + b"here"
    assert get(first, second).read_all(100) == b"here"
    assert second.asked == [("GET", ("/x?moved=1",))]


def test_a_redirect_out_of_the_pool_is_not_followed(make_host: MakeHost, get: Get) -> None:
    first, stranger = make_host("h1"), make_host("stranger")
    location = f"https://{stranger.address}/x"
    first.page = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode()
    with pytest.raises(Unreachable) as error:
        get(first)
    assert error.value.reason == "redirected"
    assert stranger.connections == 0


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        ("403 Forbidden", Unreachable, "session_lost"),
        ("400 Bad Request", Refused, "bad_request"),
        ("500 Internal Error", Unreachable, "http_500"),
    ],
)
def test_a_refusal_is_translated(
    host: ScriptedHost, get: Get, status: str, kind: type[Exception], reason: str
) -> None:
    host.page = f"HTTP/1.1 {status}\r\n\r\n".encode()
    with pytest.raises(kind) as error:
        get(host)
    assert getattr(error.value, "reason", "") == reason


def test_no_answer_at_all_is_unreachable(host: ScriptedHost, get: Get) -> None:
    with pytest.raises(Unreachable) as error:
        get(host)
    assert error.value.reason == "connection_lost"


def test_a_head_without_end_is_given_up(host: ScriptedHost, get: Get) -> None:
    host.page = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000
    with pytest.raises(Unreachable) as error:
        get(host)
    assert error.value.reason == "protocol"


def test_a_disk_that_ends_early_is_not_taken_for_the_disk(host: ScriptedHost, get: Get) -> None:
    host.page = OK + b"x" * 512
    with pytest.raises(Unreachable) as error:
        list(_pieces(get(host), 1024))
    assert error.value.reason == "export_incomplete"
