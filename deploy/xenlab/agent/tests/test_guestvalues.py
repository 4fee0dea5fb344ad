from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from deploy.xenlab.agent.guestvalues import MOST_CHANGES, GuestValues
from deploy.xenlab.agent.xenstore import Xenstore

UUID = "0f6a2c5e-7d3b-4b52-9a41-5f2f6a1f0c11"


class Store:
    """Values, and watchers that a test wakes."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.watchers: list[Callable[[str], None]] = []
        self.reads = 0

    async def watch(self, path: str, watcher: Callable[[str], None]) -> None:
        self.watchers.append(watcher)

    async def unwatch(self, path: str) -> None:
        return

    async def read(self, path: str) -> str:
        self.reads += 1
        if path not in self.values:
            raise FileNotFoundError(path)
        return self.values[path]

    def change(self, path: str, value: str | None) -> None:
        node = f"/local/domain/5/{path}"
        if value is None:
            self.values.pop(node, None)
        else:
            self.values[node] = value
        self.watchers[0](node)


async def told(changes: Callable[[Store], None], count: int) -> tuple[list[Any], int]:
    """The first events that come of changes, and how often the store was read for them."""
    store = Store()
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    values = GuestValues(cast(Xenstore, store), events.put_nowait)
    await values.follow(5, UUID)
    changes(store)
    async with asyncio.timeout(20):
        first = [await events.get() for _ in range(count)]
    await values.unfollow(5)
    return [(event["path"], event["value"]) for event in first], store.reads


async def test_a_thousand_changes_of_a_node_cost_one_event() -> None:
    def flood(store: Store) -> None:
        for number in range(1000):
            store.change("vm-data/x", str(number))

    assert await told(flood, 1) == ([("vm-data/x", "999")], 1)


async def test_a_flood_of_names_is_cut_off() -> None:
    def flood(store: Store) -> None:
        for number in range(MOST_CHANGES * 3):
            store.change(f"vm-data/{number}", "x")

    events, reads = await told(flood, MOST_CHANGES)
    assert events[-1] == (f"vm-data/{MOST_CHANGES - 1}", "x")
    assert reads == MOST_CHANGES


async def test_a_node_that_never_was_is_not_told() -> None:
    def changes(store: Store) -> None:
        store.change("vm-data/gone", None)
        store.change("vm-data/here", "y")

    assert (await told(changes, 1))[0] == [("vm-data/here", "y")]
