"""A domain's own part of xenstore: what the guest writes there is told, what it shall read is written.

Guests are hostile: each may change values as fast as it likes. A value is read when its turn comes, so that a
thousand changes of one node cost one event, and a guest's nodes are few by xenstored's quota.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from deploy.xenlab.agent.xenstore import Xenstore

FOLLOWED = ("vm-data", "attr", "data", "control")
# Seconds between two looks at what one guest changed.
PACE = 0.05
# Untold changes of one guest; more than xenstored's quota lets stand, so only a flood loses some.
MOST_CHANGES = 2048


class GuestValues:
    """`tell` is called with each event."""

    def __init__(self, store: Xenstore, tell: Callable[[dict[str, Any]], None]) -> None:
        self._store = store
        self._tell = tell
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def prepare(self, domid: int, values: Mapping[str, str]) -> None:
        """Before a domain runs: places the guest may write to, and values for it to read."""
        home = f"/local/domain/{domid}"
        for place in ("vm-data", "attr", "data"):
            await self._store.make(f"{home}/{place}")
            await self._store.permit(f"{home}/{place}", f"n{domid}")
        for path, value in values.items():
            await self.write(domid, path, value)

    async def write(self, domid: int, path: str, value: str) -> None:
        """A value below the domain's home, which the guest may read, and change below vm-data/."""
        node = f"/local/domain/{domid}/{path}"
        await self._store.write(node, value)
        if path.startswith("vm-data/"):
            await self._store.permit(node, f"n{domid}")

    async def read(self, domid: int, path: str) -> str | None:
        try:
            return await self._store.read(f"/local/domain/{domid}/{path}")
        except FileNotFoundError:
            return None

    async def follow(self, domid: int, identity: str) -> None:
        changed: dict[str, None] = {}
        news = asyncio.Event()
        home = f"/local/domain/{domid}/"

        def note(path: str) -> None:
            if len(changed) >= MOST_CHANGES:
                return
            changed[path.removeprefix(home)] = None
            news.set()

        self._tasks[domid] = asyncio.create_task(self._report(domid, identity, changed, news))
        for place in FOLLOWED:
            await self._store.watch(home + place, note)

    async def unfollow(self, domid: int) -> None:
        if task := self._tasks.pop(domid, None):
            task.cancel()
            for place in FOLLOWED:
                await self._store.unwatch(f"/local/domain/{domid}/{place}")

    async def _report(
        self, domid: int, identity: str, changed: dict[str, None], news: asyncio.Event
    ) -> None:
        seen: dict[str, str | None] = {}
        while True:
            await news.wait()
            news.clear()
            while changed:
                path = next(iter(changed))
                del changed[path]
                value = await self.read(domid, path)
                if path not in FOLLOWED and seen.get(path) != value:
                    # Names that come and go must not fill dom0's memory.
                    if value is None:
                        del seen[path]
                    else:
                        seen[path] = value
                    self._tell(
                        {"event": "xenstore", "uuid": identity, "path": path, "value": value}
                    )
            await asyncio.sleep(PACE)
