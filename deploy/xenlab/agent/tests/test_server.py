from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.xenlab.agent import server as module
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.server import Server


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, **request: Any) -> None:
        self.writer.write(json.dumps(request).encode() + b"\n")

    async def line(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(self.reader.readline(), 10))
        return answer


class Desk:
    """Answers requests; `slow` waits for `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def handle(self, do: str, arguments: dict[str, Any]) -> Any:
        if do == "slow":
            await self.go.wait()
        if do == "refuse":
            raise AgentError("no_such_domain", "there is none")
        if do == "break":
            raise KeyError("bug")
        return {"did": do, **arguments}


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, Desk, Client]]:
    monkeypatch.setattr(module, "PORT", 0)
    server, desk = Server(), Desk()
    async with await server.start(desk.handle, None) as listening:
        port = listening.sockets[0].getsockname()[1]
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        yield server, desk, client
        desk.go.set()
        client.writer.close()
        await client.writer.wait_closed()


Served = tuple[Server, Desk, Client]


async def test_requests_do_not_wait_for_each_other(served: Served) -> None:
    _, desk, client = served
    client.send(id=1, do="slow", args={})
    client.send(id=2, do="quick", args={"x": 1})
    assert await client.line() == {"id": 2, "result": {"did": "quick", "x": 1}}
    desk.go.set()
    assert await client.line() == {"id": 1, "result": {"did": "slow"}}


async def test_a_refusal_has_a_code_and_a_bug_is_not_silent(served: Served) -> None:
    _, _, client = served
    client.send(id=1, do="refuse", args={})
    assert (await client.line())["error"] == {"code": "no_such_domain", "message": "there is none"}
    client.send(id=2, do="break", args={})
    assert (await client.line())["error"]["code"] == "agent_failed"


async def test_events_reach_who_said_hello(served: Served) -> None:
    server, _, client = served
    server.tell({"event": "domain", "uuid": "missed"})
    client.send(id=1, do="hello", args={})
    assert (await client.line())["id"] == 1
    server.tell({"event": "domain", "uuid": "heard"})
    assert await client.line() == {"event": "domain", "uuid": "heard"}


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b'{"id": 1}\n', b"\xff\xfe\n"])
async def test_what_is_no_request_is_refused_and_ends_the_connection(
    served: Served, line: bytes
) -> None:
    _, _, client = served
    client.writer.write(line)
    assert (await client.line())["error"]["code"] == "bad_request"
    assert await asyncio.wait_for(client.reader.read(), 10) == b""
