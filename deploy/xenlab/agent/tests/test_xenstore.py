from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.xenlab.agent import xenstore
from deploy.xenlab.agent.xenstore import HEADER, Xenstore


class FakeXenstored:
    """Nodes in a dictionary; a watch fires for a write at or below it."""

    def __init__(self) -> None:
        self.nodes: dict[str, bytes] = {}
        self.watches: dict[str, str] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.read(HEADER.size):
            kind, number, _, length = HEADER.unpack(head)
            path, _, rest = (await reader.readexactly(length)).partition(b"\0")
            name = path.decode()
            answer, answer_kind = b"OK\0", kind
            if kind == xenstore.READ:
                if name in self.nodes:
                    answer = self.nodes[name]
                else:
                    answer, answer_kind = b"ENOENT\0", xenstore.ERROR
            elif kind == xenstore.WRITE:
                self.nodes[name] = rest
            elif kind == xenstore.WATCH:
                self.watches[name] = rest.rstrip(b"\0").decode()
            writer.write(HEADER.pack(answer_kind, number, 0, len(answer)) + answer)
            for watched, token in self.watches.items():
                if kind == xenstore.WRITE and f"{name}/".startswith(f"{watched}/"):
                    event = f"{name}\0{token}\0".encode()
                    writer.write(HEADER.pack(xenstore.WATCH_EVENT, 0, 0, len(event)) + event)
        writer.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Xenstore]:
    fake = FakeXenstored()
    server = await asyncio.start_unix_server(fake.serve, tmp_path / "socket")
    async with server:
        store = await Xenstore.connect(str(tmp_path / "socket"))
        yield store
        await store.close()


async def test_a_value_is_read_as_it_was_written(store: Xenstore) -> None:
    await store.write("/a/b", "grüße")
    assert await store.read("/a/b") == "grüße"


async def test_bytes_that_are_no_text_do_not_harm(store: Xenstore) -> None:
    await store.write("/a", "x")
    await store._call(xenstore.WRITE, b"/a\0\xff\xfe")
    assert await store.read("/a") == "��"


async def test_a_missing_node_is_an_error_of_its_own(store: Xenstore) -> None:
    with pytest.raises(FileNotFoundError):
        await store.read("/nothing")
    assert await store.read_or("/nothing", "else") == "else"


async def test_many_requests_may_be_under_way(store: Xenstore) -> None:
    await asyncio.gather(*(store.write(f"/{n}", str(n)) for n in range(50)))
    values = await asyncio.gather(*(store.read(f"/{n}") for n in range(50)))
    assert values == [str(n) for n in range(50)]


async def test_a_watcher_hears_of_changes_below_its_path(store: Xenstore) -> None:
    heard: list[str] = []
    await store.watch("/guest", heard.append)
    await store.write("/guest/vm-data/up", "yes")
    await store.write("/other", "yes")
    await store.read("/other")
    assert heard == ["/guest/vm-data/up"]


async def test_what_xenstore_cannot_take_is_refused_before_it_is_sent(store: Xenstore) -> None:
    with pytest.raises(OSError, match="4096"):
        await store.write("/long", "x" * 4096)
