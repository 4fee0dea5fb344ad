"""Who belongs to the tenant, and the tokens that programs come with."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from frontend.dashboard.access import Visitor, for_members, sent
from frontend.dashboard.errors import REFUSALS, status_of
from frontend.dashboard.forms import RoleForm, TokenForm
from hosting.errors import HostingError
from tenants.choices import Role, Scope
from tenants.models import ApiToken, Membership
from tenants.permissions import Action
from tenants.selectors import members_of, tokens_of
from tenants.services import change_role, create_token, remove_member, revoke_token

PER_PAGE = 50
_AS = {Role.OWNER: "an owner", Role.MEMBER: "a member", Role.VIEWER: "a viewer"}


@require_safe
@for_members()
def people(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    return _people(request, visitor)


def _people(
    request: HttpRequest, visitor: Visitor, *, refusal: HostingError | None = None
) -> HttpResponse:
    page = Paginator(members_of(visitor.tenant), PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "roles": Role.choices, "refusal": refusal}
    status = 200 if refusal is None else status_of(refusal)
    return visitor.show(request, "people.html", context, status=status)


def _member(visitor: Visitor, number: int) -> Membership:
    found: Membership = get_object_or_404(members_of(visitor.tenant), pk=number)
    return found


@require_POST
@for_members(Action.MANAGE)
def member_role(request: HttpRequest, visitor: Visitor, number: int) -> HttpResponse:
    member, form = _member(visitor, number), RoleForm(request.POST)
    if not form.is_valid():
        raise Http404
    role = Role(form.cleaned_data["role"])
    try:
        change_role(tenant=visitor.tenant, user=member.user, role=role)
    except REFUSALS as error:
        return _people(request, visitor, refusal=error)
    messages.info(request, f"{member.user.get_username()} is {_AS[role]} now.")
    return visitor.go("people")


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.MANAGE)
def member_remove(request: HttpRequest, visitor: Visitor, number: int) -> HttpResponse:
    member = _member(visitor, number)
    if request.method != "POST":
        return visitor.show(request, "member_remove.html", {"member": member})
    try:
        remove_member(tenant=visitor.tenant, user=member.user)
    except REFUSALS as error:
        return _people(request, visitor, refusal=error)
    messages.info(request, f"{member.user.get_username()} does not belong to the tenant any more.")
    return visitor.go("people")


# -------------------------------------------------------------------------------------------------- tokens


@require_safe
@for_members(Action.MANAGE)
def tokens(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    page = Paginator(tokens_of(visitor.tenant), PER_PAGE).get_page(request.GET.get("page"))
    return visitor.show(request, "tokens.html", {"page": page, "now": timezone.now()})


@require_http_methods(["GET", "HEAD", "POST"])
@for_members(Action.MANAGE)
def token_new(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The answer to a well-made form shows the secret: this once, so it is no redirect."""
    form = TokenForm(sent(request))
    made = form.carry_out(partial(_create, visitor))
    if made is not None:
        token, secret = made
        context = {"token": token, "secret": secret}
        return visitor.show(request, "token_made.html", context, status=201)
    form.focus()
    return visitor.show(request, "token_new.html", {"form": form}, status=form.status)


def _create(visitor: Visitor, form: TokenForm) -> tuple[ApiToken, str]:
    given = form.cleaned_data
    return create_token(
        tenant=visitor.tenant,
        user=visitor.user,
        name=given["name"],
        scopes={Scope(scope) for scope in given["scopes"]},
        expires_at=timezone.now() + form.life,
    )


@require_POST
@for_members(Action.MANAGE)
def token_revoke(request: HttpRequest, visitor: Visitor, uuid: UUID) -> HttpResponse:
    token: ApiToken = get_object_or_404(tokens_of(visitor.tenant), pk=uuid)
    revoke_token(token)
    messages.info(request, f"{token.name} opens nothing any more.")
    return visitor.go("tokens")
