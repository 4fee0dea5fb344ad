"""Containers: the list, one of them, and what may be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from frontend.dashboard import words
from frontend.dashboard.access import Visitor, for_members, sent
from frontend.dashboard.asking import call_off, key_of, offers_for
from frontend.dashboard.errors import REFUSALS, status_of
from frontend.dashboard.figures import shares_of
from frontend.dashboard.forms import ContainerForm, ResizeForm
from hosting.catalog.models import ImageQuerySet
from hosting.catalog.selectors import images_of
from hosting.compute import services
from hosting.compute.choices import RestartPolicy, Status
from hosting.compute.models import Container, ContainerQuerySet
from hosting.compute.output import last_lines
from hosting.compute.selectors import (
    Observed,
    containers_of,
    count_by_status,
    find_container,
    in_status,
    observe,
)
from hosting.errors import HostingError, NotFound, Unavailable
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.selectors import journal_of_container, newest_operation_of_container
from tenants.permissions import Action
from tenants.selectors import quota_of

PER_PAGE = 50
EVENTS_PER_PAGE = 30
LINES = 200
# From so many on a list is worth searching.
MANY = 8


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What the list is narrowed to; nonsense in the address narrows nothing."""

    text: str
    status: Status | None

    @classmethod
    def of(cls, request: HttpRequest) -> Narrowed:
        status = request.GET.get("status", "")
        return cls(
            # PostgreSQL refuses NUL in text.
            text=request.GET.get("q", "").replace("\0", "").strip()[:100],
            status=Status(status) if status in Status.values else None,
        )

    def apply(self, containers: ContainerQuerySet) -> ContainerQuerySet:
        return containers if self.status is None else in_status(containers, self.status)

    def named(self, containers: ContainerQuerySet) -> ContainerQuerySet:
        return containers.filter(name__icontains=self.text) if self.text else containers

    @property
    def is_set(self) -> bool:
        return bool(self.text or self.status)


@dataclass(frozen=True, slots=True)
class Row:
    """A container of the list."""

    seen: Observed
    tone: str


@require_safe
@for_members()
def container_list(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Asks for itself again when something of the tenant's changed (`live`), as other pages do."""
    narrowed = Narrowed.of(request)
    named = narrowed.named(containers_of(visitor.tenant))
    counts = count_by_status(named)
    page = Paginator(narrowed.apply(named), PER_PAGE).get_page(request.GET.get("page"))
    seen = [observe(container) for container in page]
    total = sum(counts.values())
    context = {
        "shares": shares_of(quota_of(visitor.tenant)),
        "rows": [Row(one, words.tone_of(one)) for one in seen],
        "page": page,
        "narrowed": narrowed,
        "counts": counts,
        "total": total,
        "is_worth_searching": narrowed.is_set or total >= MANY,
        "has_image": bool(seen) or _ready_images(visitor).exists(),
    }
    return visitor.show(request, "containers.html", context)


def _ready_images(visitor: Visitor) -> ImageQuerySet:
    return images_of(visitor.tenant).exclude(current=None)


# --------------------------------------------------------------------------------------------- a new one


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.OPERATE)
def container_new(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    quota, images = quota_of(visitor.tenant), _ready_images(visitor)
    form = ContainerForm(
        sent(request),
        images=images,
        quota=quota,
        initial={"image": request.GET.get("image")},
    )
    container = form.carry_out(partial(_create, visitor))
    if container is not None:
        return visitor.go("container", uuid=container.pk)
    form.focus()
    context = {"form": form, "shares": shares_of(quota), "has_image": images.exists()}
    return visitor.show(request, "container_new.html", context, status=form.status)


def _create(visitor: Visitor, form: ContainerForm) -> Container:
    given = form.cleaned_data
    container, _ = services.create_container(
        tenant=visitor.tenant,
        name=given["name"],
        image=given["image"],
        requested_by=visitor.user.as_actor,
        command=given["command"],
        env=given["env"],
        sizes=form.sizes,
        restart_policy=RestartPolicy(given["restart_policy"]),
        idempotency_key=given["key"],
    )
    return container


# --------------------------------------------------------------------------------------------- one of them


@require_safe
@for_members()
def container_detail(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    try:
        container = find_container(tenant=visitor.tenant, uuid=uuid)
    except NotFound:
        if not request.htmx:  # type: ignore[attr-defined]  # HtmxMiddleware's
            raise
        # It came to its end while somebody looked at it.
        messages.info(request, "The container is gone, with its disk.")
        return HttpResponseClientRedirect(visitor.address("containers"))
    return _detail(request, visitor, container)


def _detail(
    request: HttpRequest,
    visitor: Visitor,
    container: Container,
    *,
    refusal: HostingError | None = None,
) -> HttpResponse:
    seen = observe(container)
    journal = Paginator(journal_of_container(container), EVENTS_PER_PAGE)
    events = journal.get_page(request.GET.get("page"))
    members = visitor.member_names()
    context = {
        "seen": seen,
        "tone": words.tone_of(seen),
        "offers": offers_for(visitor, seen),
        "now": words.now_of(seen),
        "explained": words.explain(seen),
        "failure": None if seen.operation else _last_failure(container),
        "output": _output_of(seen),
        "events": events,
        "told": [words.tell(event, members) for event in events],
        "key": uuid4(),
        "refusal": refusal,
    }
    status = 200 if refusal is None else status_of(refusal)
    return visitor.show(request, "container.html", context, status=status)


def _last_failure(container: Container) -> tuple[str, Operation] | None:
    """What was asked last, if it came to nothing."""
    last = newest_operation_of_container(container)
    if last is None or last.state not in (State.FAILED, State.CANCELLED):
        return None
    return words.kind_of(last), last


# -------------------------------------------------------------------------------------------------- output


@require_safe
@for_members()
def container_output(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    """The output alone, for a page that is open; nothing (204) when it has it all (`?after=`)."""
    seen = observe(find_container(tenant=visitor.tenant, uuid=uuid))
    output = _output_of(seen)
    if output["cursor"] == request.GET.get("after"):
        return HttpResponse(status=204)
    return visitor.show(request, "_output.html", {"seen": seen, "output": output})


def _output_of(seen: Observed) -> dict[str, Any]:
    try:
        lines = last_lines(seen.instance.pk, LINES) if seen.instance is not None else []
    except Unavailable as error:
        return {"lines": [], "cursor": "unknown", "trouble": error.public}
    return {"lines": lines, "cursor": lines[-1].cursor if lines else "", "trouble": ""}


# ------------------------------------------------------------------------------------- asking for something


def _container(visitor: Visitor, uuid: UUID) -> Container:
    return find_container(tenant=visitor.tenant, uuid=uuid)


_VERBS = {
    "start": services.start_container,
    "stop": services.stop_container,
    "restart": services.restart_container,
}


@require_POST
@for_members(Action.OPERATE)
def container_ask(request: HttpRequest, visitor: Visitor, uuid: UUID, verb: str) -> HttpResponse:
    """Start, stop or restart it. Who was too late is told so on its page."""
    container = _container(visitor, uuid)
    try:
        _VERBS[verb](
            container=container,
            requested_by=visitor.user.as_actor,
            idempotency_key=key_of(request, verb),
        )
    except REFUSALS as error:
        return _detail(request, visitor, _container(visitor, uuid), refusal=error)
    return visitor.go("container", uuid=uuid)


@require_POST
@for_members(Action.OPERATE)
def container_cancel(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    """Let what is under way turn back. What has ended meanwhile cannot: the page shows it."""
    call_off(request, visitor, observe(_container(visitor, uuid)).operation)
    return visitor.go("container", uuid=uuid)


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.OPERATE)
def container_resize(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    container, quota = _container(visitor, uuid), quota_of(visitor.tenant)
    form = ResizeForm(sent(request), container=container, quota=quota)
    if form.carry_out(partial(_resize, visitor, container)) is not None:
        return visitor.go("container", uuid=uuid)
    form.focus()
    context = {"form": form, "seen": observe(container), "shares": shares_of(quota)}
    return visitor.show(request, "container_resize.html", context, status=form.status)


def _resize(visitor: Visitor, container: Container, form: ResizeForm) -> Operation:
    given = form.cleaned_data
    return services.resize_container(
        container=container,
        requested_by=visitor.user.as_actor,
        vcpus=given["vcpus"],
        memory_bytes=given["memory_bytes"],
        idempotency_key=given["key"],
    )


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.OPERATE)
def container_delete(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    """Asks whether it is meant; then it goes, whatever is being done with it."""
    container = _container(visitor, uuid)
    if request.method != "POST":
        return visitor.show(request, "container_delete.html", {"seen": observe(container)})
    try:
        services.delete_container(container=container, requested_by=visitor.user.as_actor)
    except NotFound:
        pass  # it is gone already, as wished
    except REFUSALS as error:
        return _detail(request, visitor, _container(visitor, uuid), refusal=error)
    messages.info(request, f"{container.name} is to be deleted, with its disk.")
    return visitor.go("containers")
