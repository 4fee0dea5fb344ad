from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request

from deploy.lab.guest import Guest
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.networking import a_vm, client


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with running_lab(2, tls=False) as running:
        yield running


@pytest.fixture
def api(lab: RunningLab) -> Iterator[Any]:
    with client(lab) as api:
        yield api


@pytest.fixture
def console(lab: RunningLab, api: Any) -> str:
    """The text console of a guest that runs on h2."""
    (h2,) = api.host.get_by_name_label("h2")
    vm = a_vm(lab, h2)

    def run(inner: Any) -> str:
        row = inner.db.get("VM", vm)
        guest = Guest(inner, row, lambda guest, end: None)
        guest.console.on_input = lambda data: guest.console.write(data.upper())
        guest.console.write(b"login: ")
        inner.machine(h2).domains[row.uuid] = guest
        return str(inner.db.create("console", VM=vm, protocol="vt100").ref)

    return lab.do(run)


def session(lab: RunningLab) -> str:
    return lab.do(lambda inner: str(inner.db.all("session")[-1].ref))


def opened(lab: RunningLab, request: str, host: int = 1) -> socket.socket:
    parts = urlsplit(lab.urls[host])
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(request.encode())
    return connection


def until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        chunk = connection.recv(4096)
        assert chunk, data
        data += chunk
    return data


def connect(lab: RunningLab, query: str, host: int = 1, cookie: str = "") -> socket.socket:
    extra = f"Cookie: session_id={cookie}\r\n" if cookie else ""
    return opened(lab, f"CONNECT /console?{query} HTTP/1.1\r\nHost: x\r\n{extra}\r\n", host)


def test_connect_shows_what_was_written_and_passes_bytes_both_ways(
    lab: RunningLab, console: str
) -> None:
    with connect(lab, f"ref={console}&session_id={session(lab)}") as connection:
        head = until(connection, b"login: ")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        connection.sendall(b"root")
        assert until(connection, b"ROOT")


def test_a_console_is_found_by_its_vm_and_a_session_by_cookie(
    lab: RunningLab, api: Any, console: str
) -> None:
    uuid = api.VM.get_uuid(api.console.get_VM(console))
    with connect(lab, f"uuid={uuid}", cookie=session(lab)) as connection:
        assert until(connection, b"login: ")


def test_only_the_host_where_the_vm_runs_serves_its_console(lab: RunningLab, console: str) -> None:
    query = f"ref={console}&session_id={session(lab)}"
    with connect(lab, query, host=0) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 500 Internal Error")


def test_a_vm_that_does_not_run_has_no_console(lab: RunningLab, api: Any) -> None:
    query = f"ref={a_vm(lab)}&session_id={session(lab)}"
    with connect(lab, query) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 500 Internal Error")


def test_strangers_see_no_console(lab: RunningLab, console: str) -> None:
    with connect(lab, f"ref={console}") as connection:
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 401 Unauthorised")
        assert b'realm="connect_console"' in answer


def test_the_connection_ends_with_the_guest(lab: RunningLab, api: Any, console: str) -> None:
    with connect(lab, f"ref={console}&session_id={session(lab)}") as connection:
        until(connection, b"login: ")
        (h2,) = api.host.get_by_name_label("h2")
        lab.do(lambda inner: inner.machine(h2).domains.clear())
        lab.clock.advance(2)
        assert connection.recv(4096) == b""


def test_a_second_viewer_is_refused_when_the_pool_says_so(
    lab: RunningLab, api: Any, console: str
) -> None:
    lab.do(lambda inner: inner.db.update(inner.pool, limit_console_sessions=True))
    query = f"ref={console}&session_id={session(lab)}"
    with connect(lab, query) as first:
        until(first, b"login: ")
        with connect(lab, query) as second:
            assert second.recv(4096).startswith(b"HTTP/1.1 503 Connection Limit Exceeded")


class WebSocket:
    """A client's end of a WebSocket."""

    def __init__(self, lab: RunningLab, path: str) -> None:
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self.socket = opened(
            lab, self.protocol.send(Request("x", path, subprotocols=["binary"])).decode()
        )

    def next(self) -> object:
        while True:
            for event in self.protocol.events():
                return event
            self.protocol.receive_data(self.socket.recv(4096))

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def test_a_websocket_carries_the_console_in_binary_frames(lab: RunningLab, console: str) -> None:
    path = f"/console?ref={console}&session_id={session(lab)}"
    with WebSocket(lab, path) as web:
        accepted = web.next()
        assert isinstance(accepted, AcceptConnection)
        assert accepted.subprotocol == "binary"
        shown = web.next()
        assert isinstance(shown, BytesMessage)
        assert shown.data == b"login: "
        web.socket.sendall(web.protocol.send(BytesMessage(data=b"root")))
        echo = web.next()
        assert isinstance(echo, BytesMessage)
        assert echo.data == b"ROOT"
        web.socket.sendall(web.protocol.send(CloseConnection(code=1000)))
        assert isinstance(web.next(), CloseConnection)


def test_a_plain_request_is_no_websocket(lab: RunningLab, console: str) -> None:
    path = f"/console?ref={console}&session_id={session(lab)}"
    with opened(lab, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 501 Method not implemented")


def test_a_client_that_stops_reading_is_cut_off(lab: RunningLab, api: Any, console: str) -> None:
    (h2,) = api.host.get_by_name_label("h2")
    with connect(lab, f"ref={console}&session_id={session(lab)}") as connection:
        until(connection, b"login: ")

        def flood(inner: Any) -> None:
            (guest,) = inner.machine(h2).domains.values()
            for _ in range(400):
                guest.console.write(b"x" * 65536)

        lab.do(flood)
        received = 0
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
        assert received < 400 * 65536
