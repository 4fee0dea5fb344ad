"""Open pages of a tenant are told that something changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.http import HttpResponseBase
from django.test import AsyncClient, Client
from django.urls import reverse

from frontend.console.live import CHANGED, notices
from frontend.dashboard.tests.conftest import Place
from hosting.compute.services import stop_container
from tenants.models import User
from tenants.notices import channel_of
from tenants.tests.makers import make_tenant


def address(slug: str) -> str:
    return reverse("dashboard:events", args=[slug])


def test_a_page_is_told_once_it_listens_and_at_every_notice(servers: None) -> None:
    channel = channel_of(uuid4())

    async def run() -> list[bytes]:
        async with aclosing(notices(channel)) as stream:
            told = [await anext(stream)]
            with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5) as client:
                client.publish(channel, "")
            told.append(await anext(stream))
            return told

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [CHANGED, CHANGED]


@pytest.mark.django_db
def test_a_stranger_gets_no_stream(client: Client) -> None:
    assert client.get(address("acme")).status_code == 401


def listen(user: User, slug: str) -> HttpResponseBase:
    async def run() -> HttpResponseBase:
        client = AsyncClient()
        await client.aforce_login(user)
        try:
            return await client.get(address(slug))
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(run())


@pytest.mark.django_db(transaction=True)
def test_a_member_gets_a_stream_that_no_proxy_may_buffer(servers: None) -> None:
    tenant = make_tenant("acme")
    response = listen(tenant.memberships.get().user, "acme")
    assert response.streaming
    assert response["Content-Type"] == "text/event-stream"
    assert response["X-Accel-Buffering"] == "no"


@pytest.mark.django_db(transaction=True)
def test_who_does_not_belong_there_finds_no_stream_operator_or_not(servers: None) -> None:
    make_tenant("acme")
    stranger = make_tenant("beta").memberships.get().user
    operator = User.objects.create_user("olga", is_staff=True)
    for user in (stranger, operator):
        assert listen(user, "acme").status_code == 404
        assert listen(user, "nowhere").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_what_is_asked_for_by_anybody_is_told_to_all_who_look(place: Place) -> None:
    container = place.add_container()

    async def run() -> bytes:
        async with aclosing(notices(channel_of(place.tenant.pk))) as stream:
            await anext(stream)
            ask: Callable[..., Awaitable[Any]] = sync_to_async(stop_container)
            await ask(container=container, requested_by="user:alice")
            await sync_to_async(connections.close_all)()
            return await anext(stream)

    assert asyncio.run(asyncio.wait_for(run(), 20)) == CHANGED
