"""Tells an open page of a tenant that something changed, by server-sent events.

As the operators' pages are told (frontend/console/live.py), on the tenant's own channel: workers speak
there when they commit a step, and followers when they mirror a VM.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from frontend.console.live import notices
from hosting.errors import NotFound
from tenants.notices import channel_of
from tenants.selectors import find_tenant


@require_safe
async def tenant_events(request: HttpRequest, slug: str) -> HttpResponse | StreamingHttpResponse:
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=401)  # an EventSource cannot follow a redirect to a form
    try:
        tenant = await sync_to_async(find_tenant)(user=user, slug=slug)
    except NotFound as error:
        raise Http404(error.public) from error
    return StreamingHttpResponse(
        notices(channel_of(tenant.pk)),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
