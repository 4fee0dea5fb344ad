from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.xenlab.agent import transaction, xenstore
from deploy.xenlab.agent.transaction import Node, make_all
from deploy.xenlab.agent.xenstore import HEADER


class FakeXenstored:
    """Keeps what was written in transaction 7; `conflicts`: how many are refused at their end."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.values: dict[str, str] = {}
        self.permissions: dict[str, list[str]] = {}
        self.conflicts = 0
        self.full = ""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:
            while head := stream.read(HEADER.size):
                kind, number, begun, length = HEADER.unpack(head)
                path, *rest = stream.read(length).decode().split("\0")
                refusal = self._take(kind, path, rest, begun)
                answer = f"{refusal}\0".encode() if refusal else b"7\0"
                kind = xenstore.ERROR if refusal else kind
                stream.write(HEADER.pack(kind, number, begun, len(answer)) + answer)

    def _take(self, kind: int, path: str, rest: list[str], begun: int) -> str:
        if kind == xenstore.WRITE and begun == 7:
            self.values[path] = rest[0]
            return "ENOSPC" if path == self.full else ""
        if kind == xenstore.SET_PERMISSIONS:
            self.permissions[path] = rest[:-1]
        if kind == transaction.END and self.conflicts:
            self.conflicts -= 1
            return "EAGAIN"
        return ""

    def close(self) -> None:
        self._thread.join(timeout=10)
        self._listening.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeXenstored]:
    fake = FakeXenstored(tmp_path / "socket")
    yield fake
    fake.close()


def test_nodes_are_made_anew_when_another_came_between(fake: FakeXenstored) -> None:
    fake.conflicts = 1
    nodes = [Node("/a", {"one": "1", "two": "2"}, ("n0", "r5")), Node("/b", {"three": "3"})]
    make_all(nodes, fake.path)
    assert fake.values == {"/a/one": "1", "/a/two": "2", "/b/three": "3"}
    assert fake.permissions == {"/a": ["n0", "r5"]}
    assert fake.conflicts == 0


def test_nodes_that_never_come_to_be_are_given_up(fake: FakeXenstored) -> None:
    fake.conflicts = 1000
    with pytest.raises(BlockingIOError):
        make_all([Node("/a", {})], fake.path)


def test_a_refusal_ends_it(fake: FakeXenstored) -> None:
    fake.full = "/a/two"
    with pytest.raises(OSError, match="ENOSPC"):
        make_all([Node("/a", {"one": "1", "two": "2"})], fake.path)
