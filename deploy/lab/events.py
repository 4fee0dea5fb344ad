"""event.from: what changed since a token, as a difference and not as a log (FACTS 9)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row, Table
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.schema import SCHEMA
from deploy.lab.wire import Int32

if TYPE_CHECKING:
    from deploy.lab.classes.event import Log
    from deploy.lab.lab import Lab

LONGEST_TIMEOUT = 24 * 3600.0
BATCHING_DELAY = 0.05

# Roles are a static table of the daemon, outside its database: no events (recorded: event_first).
_EVENT_CLASSES = {
    name.lower(): name for name, cls in SCHEMA.classes.items() if cls.has_events and name != "role"
} | {"message": "message"}


def event_class(text: str) -> str | None:
    """The class of that name, in whatever case, if it has events."""
    return _EVENT_CLASSES.get(text.lower())


@dataclass(frozen=True)
class Subscription:
    """Which objects of which classes; parsed from "*", "vm" or "vm/OpaqueRef:…"."""

    whole: frozenset[str]
    single: frozenset[tuple[str, str]]

    @classmethod
    def parse(cls, classes: Iterable[str]) -> Subscription:
        whole, single = set(), set()
        for text in classes:
            name, _, ref = text.partition("/")
            if text == "*":
                whole |= set(_EVENT_CLASSES.values())
            elif (known := event_class(name)) is not None:
                if ref:
                    single.add((known, ref))
                else:
                    whole.add(known)
        return cls(frozenset(whole), frozenset(single))

    @property
    def tables(self) -> set[str]:
        return set(self.whole) | {name for name, _ in self.single}

    def includes(self, table: str, ref: str) -> bool:
        return table in self.whole or (table, ref) in self.single


@dataclass(frozen=True)
class Token:
    """Generations of the database and of messages, written "%020d,%020d"."""

    database: int
    messages: int

    @classmethod
    def parse(cls, text: str) -> Token:
        if text == "":
            return cls(0, 0)
        try:
            database, messages = (int(part) for part in text.split(","))
        except ValueError:
            raise XapiError("EVENT_FROM_TOKEN_PARSE_FAILURE", text) from None
        if max(abs(database), abs(messages)) >= 2**63:
            raise XapiError("EVENT_FROM_TOKEN_PARSE_FAILURE", text)
        return cls(database, messages)

    def __str__(self) -> str:
        return f"{self.database:020d},{self.messages:020d}"


class Events:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._sessions: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.log: Log | None = None
        """For sessions that watch the old way, from when the first of them asks."""
        lab.db.listeners.append(self._changed)

    def _changed(self, table: str) -> None:
        for future in self._waiting.pop(table, ()):
            if not future.done():
                future.set_result(None)

    def forget_session(self, session: str) -> None:
        """Wake the calls of a session that ended; they answer SESSION_INVALID."""
        for future in self._sessions.pop(session, ()):
            if not future.done():
                future.set_result(None)

    async def wait(self, tables: set[str], session: str, seconds: float) -> None:
        """Return when something changed in `tables`, the session ended or the time is over."""
        future = asyncio.get_running_loop().create_future()
        timer = asyncio.ensure_future(self.lab.clock.sleep(seconds))
        for name in tables:
            self._waiting[name].add(future)
        self._sessions[session].add(future)
        try:
            await asyncio.wait((future, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            for name in tables:
                self._waiting[name].discard(future)
            self._sessions[session].discard(future)
            if not self._sessions[session]:
                del self._sessions[session]

    def since(self, subscription: Subscription, token: Token) -> tuple[list[Any], Token]:
        """Adds, then mods, then deletions after the token, and the token after them.

        Deleted messages are told of whether or not they existed at the token (recorded:
        event_first).
        """
        adds: list[Any] = []
        mods: list[Any] = []
        deletions: list[Any] = []
        # Who does not watch messages gets no moment of theirs either (recorded: event_first).
        watched = "message" in subscription.tables
        last = {"database": max(0, token.database), "messages": token.messages * watched}
        for name in subscription.tables:
            part = "messages" if name == "message" else "database"
            after = token.messages if name == "message" else token.database
            table = self.lab.db.tables[name]
            for row in self._changes(subscription, name, table, after):
                last[part] = max(last[part], row.modified_at)
                created = row.created_at > after
                (adds if created else mods).append(_event(row, "add" if created else "mod"))
            for deleted, ref in self._deletions(subscription, name, table, after):
                last[part] = max(last[part], deleted)
                deletions.append(
                    {
                        "id": "0" if name == "message" else str(deleted),
                        "timestamp": "0.0",
                        "class": name.lower(),
                        "operation": "del",
                        "ref": ref,
                    }
                )
        return adds + mods + deletions, Token(**last)

    @staticmethod
    def _changes(subscription: Subscription, name: str, table: Table, after: int) -> Iterator[Row]:
        if name in subscription.whole:
            yield from table.changed_after(after)
            return
        for cls, ref in subscription.single:
            row = table.rows.get(ref) if cls == name else None
            if row is not None and row.modified_at > after:
                yield row

    @staticmethod
    def _deletions(
        subscription: Subscription, name: str, table: Table, after: int
    ) -> Iterator[tuple[int, str]]:
        for deleted, created, ref in reversed(table.deletions):
            if deleted <= after:
                return
            if (created <= after or name == "message") and subscription.includes(name, ref):
                yield deleted, ref

    def valid_ref_counts(self) -> dict[str, int]:
        """Live objects of every class; those not kept in the database count 0 (recorded)."""
        return {
            name.lower(): Int32(0 if name in ("message", "role") else len(table.rows))
            for name, table in self.lab.db.tables.items()
        }


def _event(row: Row, operation: str) -> dict[str, Any]:
    return {
        "id": "0" if row.cls == "message" else str(row.modified_at),
        "timestamp": "0.0",
        "class": row.cls.lower(),
        "operation": operation,
        "ref": row.ref,
        "snapshot": row.record,
    }


@message("event.from")
async def event_from(call: Call, classes: list[str], token: str, timeout: float) -> dict[str, Any]:
    assert call.session is not None
    events = call.lab.events
    subscription = Subscription.parse(classes)
    after = Token.parse(token)
    clock = call.lab.clock
    deadline = clock.now() + (timeout if timeout >= 0 else LONGEST_TIMEOUT)
    only_tasks = subscription.tables <= {"task"}
    while True:
        found, last = events.since(subscription, after)
        remaining = deadline - clock.now()
        if found or remaining <= 0:
            break
        await events.wait(subscription.tables, call.session.ref, remaining)
        call.lab.sessions.check(call.session.ref)
        if not only_tasks:
            await clock.sleep(min(BATCHING_DELAY, max(0.0, deadline - clock.now())))
    return {
        "events": found,
        "token": str(last),
        "valid_ref_counts": events.valid_ref_counts(),
    }
