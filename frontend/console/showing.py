"""What all pages of the console have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from hosting.alarms.selectors import standing_alarms
from hosting.errors import HostingError

PER_PAGE = 50

M = TypeVar("M", bound=Model)


def show(
    request: HttpRequest, template: str, section: str, *, status: int = 200, **context: Any
) -> HttpResponse:
    """A page of the console; `section` is where it stands in the navigation."""
    common = {"section": section, "alarms_standing": standing_alarms().count()}
    return render(request, f"console/{template}.html", {**common, **context}, status=status)


def one_page(rows: QuerySet[M], request: HttpRequest, name: str = "page") -> Page[M]:
    """The page that the address names; nonsense there is the first one."""
    return Paginator(rows, PER_PAGE).get_page(request.GET.get(name))


def text_in(request: HttpRequest, name: str) -> str:
    """What was typed to search for. PostgreSQL refuses NUL in text."""
    return request.GET.get(name, "").replace("\0", "").strip()[:100]


def attempt(request: HttpRequest, do: Callable[[], Any], done: str) -> bool:
    """Do it and say so on the next page, or say why not."""
    try:
        do()
    except HostingError as refusal:
        messages.error(request, refusal.public)
        return False
    messages.success(request, done)
    return True


def back(request: HttpRequest, otherwise: str) -> HttpResponse:
    """To the page whose form this was, if it says so and is ours."""
    wanted = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(
        wanted, {request.get_host()}, require_https=request.is_secure()
    ):
        return redirect(wanted)
    return redirect(otherwise)
