"""The old way of watching: register, then next; and event.inject (FACTS 9, xapi_event.ml).

Deprecated in favour of event.from. Unlike it this is a log: every change that any registered
session asked for is kept, one after the other, until the log is too long.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError, handle_invalid
from deploy.lab.events import Subscription, Token, event_class

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

LONGEST_WAIT = 3600.0
LARGEST_LOG = 10 * 1024**2
"""Bytes of events, as JSON, that are kept."""


@dataclass
class Registration:
    """What one session asked for, and the first event that it was not yet told of."""

    next_id: int
    classes: list[str] = field(default_factory=list)

    @property
    def subscription(self) -> Subscription:
        return Subscription.parse(self.classes)


class Log:
    """What happened since the first session registered. One per lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.next_id = 0
        self.first_id = 0
        """Of the events that are still known."""
        self.registrations: dict[str, Registration] = {}
        self._events: deque[tuple[int, str, dict[str, Any]]] = deque()
        self._size = 0
        lab.db.watchers.append(self._add)

    def _add(self, row: Row, operation: str) -> None:
        if not self.registrations or event_class(row.cls) is None:
            return
        live = self.lab.db.tables["session"].rows
        self.registrations = {s: r for s, r in self.registrations.items() if s in live}
        asked = (r.subscription.includes(row.cls, row.ref) for r in self.registrations.values())
        if any(asked):
            self._keep(row, operation)

    def _keep(self, row: Row, operation: str) -> None:
        event: dict[str, Any] = {
            "id": str(self.next_id),
            "timestamp": f"{self.lab.clock.now():.0f}.",
            "class": row.cls.lower(),
            "operation": operation,
            "ref": row.ref,
        }
        size = 0
        if operation != "del":
            event["snapshot"] = row.record
            size = len(row.record.json)
        self.next_id += 1
        self._size += size
        self._events.append((size, row.cls, event))
        while self._size > LARGEST_LOG:
            self._size -= self._events.popleft()[0]
            self.first_id += 1

    def since(self, registration: Registration) -> list[dict[str, Any]]:
        """What the session asked for and was not yet told of. Raises EVENTS_LOST."""
        start, registration.next_id = registration.next_id, self.next_id
        if start == self.next_id:
            return []
        if start < self.first_id:
            raise XapiError("EVENTS_LOST")
        wanted = registration.subscription
        newest_first = (self._events[-1 - n] for n in range(self.next_id - start))
        found = [event for _, cls, event in newest_first if wanted.includes(cls, event["ref"])]
        return found[::-1]


def _log(call: Call) -> Log:
    events = call.lab.events
    if events.log is None:
        events.log = Log(call.lab)
    return events.log


def _session(call: Call) -> str:
    assert call.session is not None
    return call.session.ref


def _registration(call: Call) -> Registration:
    """The session's; made if it has none, also when it unregisters what it never registered."""
    log = _log(call)
    return log.registrations.setdefault(_session(call), Registration(log.next_id))


@message("event.register")
def register(call: Call, classes: list[str]) -> None:
    _registration(call).classes += [text.lower() for text in classes]


@message("event.unregister")
def unregister(call: Call, classes: list[str]) -> None:
    registration = _registration(call)
    given = {text.lower() for text in classes}
    registration.classes = [text for text in registration.classes if text not in given]


@message("event.next")
async def wait_for_next(call: Call) -> list[dict[str, Any]]:
    """What changed since the last call, waiting for it. Raises SESSION_NOT_REGISTERED."""
    events, session, log = call.lab.events, _session(call), _log(call)
    while True:
        registration = log.registrations.get(session)
        if registration is None:
            digest = hashlib.md5(session.encode(), usedforsecurity=False).hexdigest()
            raise XapiError("SESSION_NOT_REGISTERED", f"trackid={digest}")
        found = log.since(registration)
        if found:
            return found
        await events.wait(registration.subscription.tables, session, LONGEST_WAIT)
        call.lab.sessions.check(session)


@message("event.get_current_id")
def get_current_id(call: Call) -> int:
    return _log(call).next_id


@message("event.inject")
def inject(call: Call, cls: str, ref: str) -> str:
    """Count a change of the object; answers the token from just before it: a barrier."""
    name = event_class(cls)
    row = call.db.find(name, ref) if name is not None else None
    if row is None:
        raise handle_invalid(cls, ref)
    before = Token(call.db.generation, 0)
    call.db.touch(row)
    return str(before)
