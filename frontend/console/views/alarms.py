"""Alarms, and the pages that say what to do about them."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from frontend.console import runbooks
from frontend.console.access import act, actor_of, page
from frontend.console.showing import one_page, show
from hosting.alarms.models import Alarm
from hosting.alarms.selectors import closed_alarms, standing_alarms
from hosting.alarms.services import acknowledge_alarm


@page
def alarm_list(request: HttpRequest) -> HttpResponse:
    return show(
        request,
        "alarms",
        "alarms",
        standing=standing_alarms(),
        closed=one_page(closed_alarms(), request),
    )


@act
def acknowledge(request: HttpRequest, number: int) -> HttpResponse:
    """It stands on, and others see that somebody looks at it."""
    acknowledge_alarm(get_object_or_404(Alarm, pk=number), actor=actor_of(request))
    return redirect("console:alarms")


@page
def runbook(request: HttpRequest, code: str) -> HttpResponse:
    text = runbooks.read(code)
    if text is None:
        raise Http404
    return show(request, "runbook", "alarms", code=code, runbook=runbooks.render(text))
