"""What may be asked of a container or an image now, and what asking has in common."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest

from frontend.dashboard import words
from frontend.dashboard.access import Visitor
from hosting.compute.choices import Status
from hosting.compute.selectors import Observed
from hosting.operations.models import Operation
from hosting.operations.services import cancel


@dataclass(frozen=True, slots=True)
class Offers:
    """What makes sense to ask of a container now; none of it to somebody who may only look."""

    start: bool = False
    stop: bool = False
    restart: bool = False
    resize: bool = False
    delete: bool = False
    cancel: bool = False

    @property
    def are_there(self) -> bool:
        return self != Offers()


_AT_REST = {
    Status.RUNNING: Offers(stop=True, restart=True, resize=True, delete=True),
    Status.STOPPED: Offers(start=True, resize=True, delete=True),
    Status.EXITED: Offers(start=True, stop=True, resize=True, delete=True),
    Status.FAILED: Offers(start=True, delete=True),
    Status.UNKNOWN: Offers(stop=True, delete=True),
}


def offers_for(visitor: Visitor, seen: Observed) -> Offers:
    """The services have the last word: what is offered may be too late when it is asked for."""
    if not visitor.may_operate or seen.status == Status.DELETING:
        return Offers()
    if seen.operation is not None:
        return Offers(delete=True, cancel=words.can_be_cancelled(seen.operation))
    return _AT_REST.get(seen.status, Offers(delete=True))


def key_of(request: HttpRequest, verb: str) -> str:
    """So that a button pressed twice asks once; none when the page's own key did not come along."""
    try:
        return f"{verb}:{UUID(request.POST.get('key', ''))}"
    except ValueError:
        return ""


def call_off(request: HttpRequest, visitor: Visitor, operation: Operation | None) -> None:
    """Let what is under way turn back; who came too late is told so."""
    if operation is None or not words.can_be_cancelled(operation):
        messages.info(request, "There is nothing to cancel any more.")
    elif not cancel(operation, requested_by=visitor.user.as_actor):
        messages.info(request, "It has ended, or was cancelled, just before.")
