"""What was asked for, and how much of the quota is taken."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from frontend.dashboard import words
from frontend.dashboard.access import Visitor, for_members
from frontend.dashboard.figures import shares_of
from hosting.compute.selectors import containers_of
from hosting.operations.models import Operation
from hosting.operations.selectors import operations_of
from tenants.selectors import quota_of

PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """An operation of the list, in words."""

    operation: Operation
    what: str
    who: str
    state: str
    tone: str
    why: str

    @property
    def name(self) -> str:
        """Of what it was about."""
        operation = self.operation
        about = operation.instance.container if operation.instance else operation.image
        return about.name if about is not None else ""

    @property
    def container_uuid(self) -> object:
        """Of a container whose page can be opened."""
        instance = self.operation.instance
        if instance is None or instance.container.deleted_at is not None:
            return None
        return instance.container_id


def _row(operation: Operation, members: set[str]) -> Row:
    state, tone = words.STATES[operation.state]  # type: ignore[index]  # its column's values
    step = words.step_of(operation.kind, operation.step)
    return Row(
        operation=operation,
        what=words.kind_of(operation),
        who=words.actor(operation.requested_by, members),
        state=state,
        tone=tone,
        why=operation.error if operation.has_ended else (operation.detail or step),
    )


@require_safe
@for_members()
def activity(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    found = operations_of(visitor.tenant).select_related("instance__container", "image")
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    members = visitor.member_names()
    context = {"rows": [_row(operation, members) for operation in page], "page": page}
    return visitor.show(request, "activity.html", context)


@require_safe
@for_members()
def quota(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What there is, and which containers take it: the greatest first."""
    takers = containers_of(visitor.tenant).order_by("-memory_bytes", "name")
    page = Paginator(takers, PER_PAGE).get_page(request.GET.get("page"))
    context = {"shares": shares_of(quota_of(visitor.tenant)), "page": page}
    return visitor.show(request, "quota.html", context)
