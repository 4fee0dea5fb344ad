"""Tells an open page of a tenant that something changed, by server-sent events.

As the operators' pages are told (frontend/console/live.py), on the tenant's own channel: workers speak
there when they commit a step, and followers when they mirror a VM.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from frontend.console.live import notices
from hosting.errors import NotFound
from tenants.notices import channel_of
from tenants.selectors import find_tenant


@require_safe
async def tenant_events(request: HttpRequest, slug: str) -> HttpResponse | StreamingHttpResponse:
    """An EventSource shows no page and follows no redirect to a form: refusals are bare."""
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=401)
    try:
        tenant = await sync_to_async(find_tenant)(user=user, slug=slug)
    except NotFound:
        return HttpResponse(status=404)
    return StreamingHttpResponse(
        notices(channel_of(tenant.pk)),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
