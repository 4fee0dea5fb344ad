"""The old way of watching: register, then next; and event.inject (FACTS 9).

Deprecated in favour of event.from. A session that registered is told what changed since, like
event.from tells it: several changes of one object between two calls come as one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError, handle_invalid
from deploy.lab.events import Events, Subscription, Token, event_class

LONGEST_WAIT = 3600.0


@dataclass
class Registration:
    classes: set[str]
    token: Token

    @property
    def subscription(self) -> Subscription:
        return Subscription.parse(self.classes)


_registered: WeakKeyDictionary[Events, dict[str, Registration]] = WeakKeyDictionary()
_given_out: WeakKeyDictionary[Events, int] = WeakKeyDictionary()


def _registrations(call: Call) -> dict[str, Registration]:
    return _registered.setdefault(call.lab.events, {})


def _session(call: Call) -> str:
    assert call.session is not None
    return call.session.ref


@message("event.register")
def register(call: Call, classes: list[str]) -> None:
    live = call.db.tables["session"].rows
    registrations = _registrations(call)
    for session in [ref for ref in registrations if ref not in live]:
        del registrations[session]
    now = Token(call.db.generation, call.db.generation)
    registration = registrations.setdefault(_session(call), Registration(set(), now))
    registration.classes |= {text.lower() for text in classes}


@message("event.unregister")
def unregister(call: Call, classes: list[str]) -> None:
    registration = _registrations(call).get(_session(call))
    if registration is None:
        return
    registration.classes -= {text.lower() for text in classes}
    if not registration.classes:
        del _registrations(call)[_session(call)]


@message("event.next")
async def wait_for_next(call: Call) -> list[dict[str, Any]]:
    """What changed since the last call, waiting for it. Raises SESSION_NOT_REGISTERED."""
    events, session = call.lab.events, _session(call)
    while True:
        registration = _registrations(call).get(session)
        if registration is None:
            digest = hashlib.md5(session.encode(), usedforsecurity=False).hexdigest()
            raise XapiError("SESSION_NOT_REGISTERED", f"trackid={digest}")
        found, registration.token = events.since(registration.subscription, registration.token)
        if found:
            return [_numbered(call, event) for event in found]
        await events.wait(registration.subscription.tables, session, LONGEST_WAIT)
        call.lab.sessions.check(session)


def _numbered(call: Call, event: dict[str, Any]) -> dict[str, Any]:
    number = _given_out.get(call.lab.events, 0) + 1
    _given_out[call.lab.events] = number
    return {**event, "id": str(number), "timestamp": f"{call.lab.clock.now():.0f}."}


@message("event.get_current_id")
def get_current_id(call: Call) -> int:
    return _given_out.get(call.lab.events, 0)


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
