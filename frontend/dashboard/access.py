"""Who looks at which tenant, and what they may do there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect

from hosting.errors import Forbidden, NotFound
from tenants.confinement import confined_to
from tenants.models import Membership, Tenant, User
from tenants.permissions import Action, may, require
from tenants.selectors import members_of, memberships_of

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person at a tenant they belong to. `memberships`: all of theirs, for the way to another."""

    user: User
    membership: Membership
    memberships: list[Membership]

    @property
    def tenant(self) -> Tenant:
        return self.membership.tenant

    @property
    def may_operate(self) -> bool:
        return may(self.membership.role, Action.OPERATE)

    @property
    def may_manage(self) -> bool:
        return may(self.membership.role, Action.MANAGE)

    def member_names(self) -> set[str]:
        """Of the tenant's people: those who may be named here."""
        return set(members_of(self.tenant).values_list("user__username", flat=True))

    def address(self, name: str, **more: object) -> str:
        """Of a page of this tenant."""
        return reverse(f"dashboard:{name}", kwargs={"slug": self.tenant.slug, **more})

    def go(self, name: str, **more: object) -> HttpResponse:
        return redirect(self.address(name, **more))

    def show(
        self,
        request: HttpRequest,
        template: str,
        context: Mapping[str, Any] | None = None,
        *,
        status: int = 200,
    ) -> HttpResponse:
        """A page of this tenant, with its head and its ways to other pages."""
        return render(
            request, f"dashboard/{template}", {**(context or {}), "visitor": self}, status=status
        )


View = Callable[Concatenate[HttpRequest, Visitor, P], HttpResponse]


def for_members(
    action: Action = Action.VIEW, *, to_write: Action | None = None
) -> Callable[[View[P]], Callable[..., HttpResponse]]:
    """A view of one tenant, for those who may `action` there; `to_write` (the same unless told) to POST.

    Strangers to Bulkhead sign in first. Strangers to the tenant, and whoever asks for another one's
    things, find nothing (404); members of too low a role are told so (403). The view itself is confined to the
    tenant's rows, in one transaction.
    """

    def guard(view: View[P]) -> Callable[..., HttpResponse]:
        @never_cache
        @wraps(view)
        def guarded(request: HttpRequest, slug: str, *args: P.args, **kwargs: P.kwargs) -> Any:
            if not request.user.is_authenticated:
                return _sign_in(request)
            needed = (to_write or action) if request.method == "POST" else action
            try:
                visitor = _visitor(request.user, slug, needed)
                with confined_to(visitor.tenant):
                    return view(request, visitor, *args, **kwargs)
            except NotFound as error:
                raise Http404(error.public) from error
            except Forbidden as error:
                raise PermissionDenied(error.public) from error

        return guarded

    return guard


def sent(request: HttpRequest) -> QueryDict | None:
    """What a form was sent with; None when it is only looked at."""
    return request.POST if request.method == "POST" else None


def _visitor(user: User, slug: str, needed: Action) -> Visitor:
    memberships = list(memberships_of(user))
    here = next((one for one in memberships if one.tenant.slug == slug), None)
    return Visitor(user, require(here, needed), memberships)


def _sign_in(request: HttpRequest) -> HttpResponse:
    """And come back. A part of a page that is asked for again takes the whole page along."""
    if not request.htmx:  # type: ignore[attr-defined]  # HtmxMiddleware's
        return redirect_to_login(request.get_full_path())
    page = urlsplit(request.headers.get("HX-Current-URL", "/"))
    there = redirect_to_login(page._replace(scheme="", netloc="").geturl() or "/")
    return HttpResponseClientRedirect(there.url)
