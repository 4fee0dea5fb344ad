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
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from hosting.fleet.models import Pool
from hosting.fleet.notices import channel_of

log = structlog.get_logger(__name__)

KEEP_ALIVE = 15.0
"""Seconds between comments that keep proxies from closing a quiet stream."""
RECONNECT = 2.0
EVERY_POOL = "bulkhead:pool:*"
CHANGED = b"event: changed\ndata:\n\n"


@require_safe
async def pool_events(request: HttpRequest, uuid: UUID) -> HttpResponse | StreamingHttpResponse:
    """Of one pool."""
    refusal = await _refusal(request)
    if refusal is not None:
        return refusal
    if not await Pool.objects.filter(pk=uuid).aexists():
        return HttpResponse(status=404)
    return _stream(channel_of(uuid))


@require_safe
async def fleet_events(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Of all pools."""
    refusal = await _refusal(request)
    return refusal if refusal is not None else _stream(EVERY_POOL)


async def _refusal(request: HttpRequest) -> HttpResponse | None:
    user = await request.auser()
    if not user.is_authenticated:
        return HttpResponse(status=401)  # an EventSource cannot follow a redirect to a form
    if not user.is_staff:
        return HttpResponse(status=403)
    return None


def _stream(channels: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        notices(channels),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def notices(channels: str) -> AsyncGenerator[bytes, None]:
    """One `changed` event a notice on channels of this pattern, merged where they come thick; comments
    when it is quiet. Whoever is told holds no connection to the database meanwhile.
    """
    await sync_to_async(close_old_connections)()
    while True:
        try:
            async with aclosing(_listen(channels)) as heard:
                async for something in heard:
                    yield CHANGED if something else b": quiet\n\n"
        except (RedisError, OSError) as error:
            log.warning("live_notices_lost", error=repr(error))
            yield b": reconnecting\n\n"
            await asyncio.sleep(RECONNECT)


async def _listen(channels: str) -> AsyncGenerator[bool, None]:
    """True once it listens and for each notice, False for a quiet while."""
    client = redis.asyncio.from_url(
        settings.REDIS_URL, socket_connect_timeout=5, socket_timeout=KEEP_ALIVE + 5
    )
    try:
        async with client.pubsub() as subscription:
            await subscription.psubscribe(channels)
            while True:
                message = await subscription.get_message(timeout=KEEP_ALIVE)
                yield message is not None
    finally:
        await client.aclose()
