"""Tells an open page that its pool changed, by server-sent events.

The follower says so on Redis after each commit; the page then asks for itself again. A notice
carries no news, so losing one costs a little time and nothing else: the page is also told as soon
as it is listened for, and whenever the connection to Redis had to be made anew.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

import redis.asyncio
import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from hosting.fleet.models import Pool

log = structlog.get_logger(__name__)

KEEP_ALIVE = 15.0
"""Seconds between comments that keep proxies from closing a quiet stream."""
RECONNECT = 2.0
CHANGED = b"event: changed\ndata:\n\n"


def channel_of(pool: UUID) -> str:
    """Where the follower of a pool says that something changed."""
    return f"bulkhead:pool:{pool}"


@require_safe
async def pool_events(request: HttpRequest, uuid: UUID) -> HttpResponse | StreamingHttpResponse:
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=401)  # an EventSource cannot follow a redirect to a form
    if not user.is_staff:
        raise PermissionDenied
    if not await Pool.objects.filter(pk=uuid).aexists():
        raise Http404
    return StreamingHttpResponse(
        notices(channel_of(uuid)),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def notices(channel: str) -> AsyncGenerator[bytes, None]:
    """One `changed` event a notice, merged where they come thick; comments when it is quiet."""
    while True:
        try:
            async with aclosing(_listen(channel)) as heard:
                async for something in heard:
                    yield CHANGED if something else b": quiet\n\n"
        except (RedisError, OSError) as error:
            log.warning("live_notices_lost", error=repr(error))
            yield b": reconnecting\n\n"
            await asyncio.sleep(RECONNECT)


async def _listen(channel: str) -> AsyncGenerator[bool, None]:
    """True once it listens and for each notice, False for a quiet while."""
    client = redis.asyncio.from_url(
        settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=KEEP_ALIVE + 5
    )
    try:
        async with client.pubsub() as subscription:
            await subscription.subscribe(channel)
            while True:
                message = await subscription.get_message(timeout=KEEP_ALIVE)
                yield message is not None
    finally:
        await client.aclose()
