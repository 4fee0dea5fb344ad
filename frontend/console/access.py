"""Who may see the operators' pages, and act there."""

from collections.abc import Callable
from functools import wraps
from typing import cast

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from tenants.models import User

View = Callable[..., HttpResponseBase]


def operator_required(view: View) -> View:
    """Strangers sign in first; whoever is signed in and no operator is told so (403)."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not request.user.is_staff:
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def page(view: View) -> View:
    """To look at: never an old copy of it."""
    return never_cache(require_safe(operator_required(view)))


def act(view: View) -> View:
    """To do something: by POST alone."""
    return never_cache(require_POST(operator_required(view)))


def form(view: View) -> View:
    """To look at by GET, and to do by POST."""
    return never_cache(operator_required(view))


def actor_of(request: HttpRequest) -> str:
    """The operator as operations and audit entries name them."""
    return cast(User, request.user).as_actor


def address_of(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None
