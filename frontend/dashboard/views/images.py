"""The catalogue: what containers may be made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from frontend.dashboard import words
from frontend.dashboard.access import Visitor, for_members, sent
from frontend.dashboard.asking import call_off
from frontend.dashboard.errors import REFUSALS, status_of
from frontend.dashboard.forms import ImportForm
from hosting.catalog import services
from hosting.catalog.choices import ImageState
from hosting.catalog.models import Image
from hosting.catalog.selectors import (
    ObservedImage,
    find_image,
    images_with_news,
    observe_image,
)
from hosting.errors import Forbidden, HostingError
from tenants.permissions import Action

PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """An image of the list, and what may be asked of it."""

    seen: ObservedImage
    tone: str
    step: str
    container_count: int
    may_change: bool

    @property
    def may_cancel(self) -> bool:
        operation = self.seen.operation
        return self.may_change and operation is not None and words.can_be_cancelled(operation)

    @property
    def may_refresh(self) -> bool:
        return self.may_change and not self.seen.is_busy

    @property
    def may_remove(self) -> bool:
        return self.may_change and not self.container_count

    @property
    def may_use(self) -> bool:
        return self.seen.state == ImageState.READY


def _row(visitor: Visitor, seen: ObservedImage) -> Row:
    operation = seen.operation
    return Row(
        seen=seen,
        tone=words.IMAGE_TONES[seen.state],
        step=words.step_of(operation.kind, operation.step) if operation and seen.is_busy else "",
        container_count=getattr(seen.image, "container_count", 0),
        # Those that are everybody's, operators look after.
        may_change=visitor.may_operate and seen.image.tenant_id is not None,
    )


@require_safe
@for_members()
def image_list(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    return _list(request, visitor)


def _list(
    request: HttpRequest, visitor: Visitor, *, refusal: HostingError | None = None
) -> HttpResponse:
    images = Paginator(images_with_news(visitor.tenant), PER_PAGE)
    page = images.get_page(request.GET.get("page"))
    rows = [_row(visitor, observe_image(image)) for image in page]
    context = {"rows": rows, "page": page, "refusal": refusal}
    status = 200 if refusal is None else status_of(refusal)
    return visitor.show(request, "images.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.OPERATE)
def image_new(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    form = ImportForm(sent(request))
    if form.carry_out(partial(_import, visitor)) is not None:
        return visitor.go("images")
    form.focus()
    return visitor.show(request, "image_new.html", {"form": form}, status=form.status)


def _import(visitor: Visitor, form: ImportForm) -> Image:
    given = form.cleaned_data
    image, _ = services.import_image(
        tenant=visitor.tenant,
        name=given["name"],
        reference=given["reference"],
        requested_by=visitor.user.as_actor,
        idempotency_key=given["key"],
    )
    return image


def _own(visitor: Visitor, uuid: UUID) -> Image:
    """Raises Forbidden for one that is everybody's."""
    image = find_image(tenant=visitor.tenant, uuid=uuid)
    if image.tenant_id is None:
        raise Forbidden("That image is everybody's.", code="image_is_everybodys")
    return image


@require_POST
@for_members(Action.OPERATE)
def image_refresh(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    """See what its reference names now; a failed import is tried again by the same."""
    image = _own(visitor, uuid)
    try:
        services.refresh_image(image=image, requested_by=visitor.user.as_actor)
    except REFUSALS as error:
        return _list(request, visitor, refusal=error)
    return visitor.go("images")


@require_POST
@for_members(Action.OPERATE)
def image_cancel(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    call_off(request, visitor, observe_image(_own(visitor, uuid)).operation)
    return visitor.go("images")


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.OPERATE)
def image_remove(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    """Asks whether it is meant; then it is out of the catalogue at once."""
    image = _own(visitor, uuid)
    if request.method != "POST":
        return visitor.show(request, "image_remove.html", {"image": image})
    try:
        services.remove_image(image=image, requested_by=visitor.user.as_actor)
    except REFUSALS as error:
        return _list(request, visitor, refusal=error)
    messages.info(request, f"{image.name} is out of the catalogue.")
    return visitor.go("images")
