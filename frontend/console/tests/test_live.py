import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from uuid import uuid4

import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.http import HttpResponseBase
from django.test import AsyncClient, Client
from django.urls import reverse

from frontend.console.live import CHANGED, EVERY_POOL, notices
from hosting.fleet.notices import channel_of
from hosting.fleet.tests.makers import make_pool
from tenants.models import User


@pytest.fixture
def publisher(servers: None) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as client:
        yield client


def test_a_page_is_told_once_it_listens_and_at_every_notice(publisher: redis.Redis) -> None:
    channel = channel_of(uuid4())

    async def run() -> list[bytes]:
        async with aclosing(notices(channel)) as stream:
            told = [await anext(stream)]
            publisher.publish(channel, "")
            told.append(await anext(stream))
            return told

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [CHANGED, CHANGED]


def test_a_page_about_all_pools_is_told_of_each(publisher: redis.Redis) -> None:
    async def run() -> list[bytes]:
        async with aclosing(notices(EVERY_POOL)) as stream:
            told = [await anext(stream)]
            publisher.publish(channel_of(uuid4()), "")
            told.append(await anext(stream))
            return told

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [CHANGED, CHANGED]


def streams() -> list[str]:
    return [reverse("console:events"), reverse("console:pool-events", args=[make_pool().pk])]


@pytest.mark.django_db
def test_a_stranger_gets_no_stream(client: Client) -> None:
    assert [client.get(address).status_code for address in streams()] == [401, 401]


@pytest.mark.django_db
def test_a_tenants_user_gets_no_stream(client: Client) -> None:
    client.force_login(User.objects.create_user("alice"))
    assert [client.get(address).status_code for address in streams()] == [403, 403]


@pytest.mark.django_db(transaction=True)
def test_an_operator_gets_a_stream_that_no_proxy_may_buffer(servers: None) -> None:
    pool = make_pool()
    operator = User.objects.create_user("olga", is_staff=True)

    async def run() -> HttpResponseBase:
        client = AsyncClient()
        await client.aforce_login(operator)
        try:
            return await client.get(reverse("console:pool-events", args=[pool.pk]))
        finally:
            await sync_to_async(connections.close_all)()

    response = asyncio.run(run())
    assert response.streaming
    assert response["Content-Type"] == "text/event-stream"
    assert response["X-Accel-Buffering"] == "no"
