"""Long-running work: read, listed, waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hosting.api.callers import actor_of
from hosting.api.idempotency import once_per_key
from hosting.api.pages import Pages
from hosting.api.schema import WAIT
from hosting.api.serializers import (
    FleetOperationEventOut,
    FleetOperationOut,
    OperationEventOut,
    OperationOut,
)
from hosting.api.views.base import OperatorView, TenantView, View
from hosting.errors import InvalidRequest, NotFound
from hosting.operations.models import Operation, OperationEvent
from hosting.operations.selectors import has_ended, journal_of, operations, operations_of
from hosting.operations.services import call_off, call_off_own, run_now

LONGEST_WAIT = 60
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

ACTIVE = OpenApiParameter(
    "active", OpenApiTypes.BOOL, description="Only those that have not ended, or have."
)


def wait_of(request: Request | HttpRequest) -> int:
    """Seconds. Raises InvalidRequest."""
    asked = request.GET.get("wait", "0")
    if not asked.isdecimal() or int(asked) > LONGEST_WAIT:
        raise InvalidRequest(f"wait: whole seconds, {LONGEST_WAIT} at most.")
    return int(asked)


def waiting(view: type[APIView]) -> Callable[..., Coroutine[Any, Any, HttpResponse]]:
    """The view that answers at once, or with `?wait=` when the operation has ended, at the latest then.

    Whoever waits holds neither a database connection nor a thread that others need: the view itself says
    who may look, and then a small question is asked again and again.
    """
    look = cast(Callable[..., Response], view.as_view())

    async def answer(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        response = await sync_to_async(look)(request, **kwargs)
        if response.status_code != 200 or response.data["ended_at"] is not None:
            return response
        if seconds := wait_of(request):
            await _until_ended(kwargs["uuid"], seconds)
            response = await sync_to_async(look)(request, **kwargs)
        return response

    # What makes it a view of the REST framework for those who list them.
    answer.cls = view  # type: ignore[attr-defined]
    answer.initkwargs = {}  # type: ignore[attr-defined]
    return csrf_exempt(answer)


async def _until_ended(uuid: UUID, seconds: int) -> None:
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE
    await sync_to_async(close_old_connections)()
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        if await sync_to_async(_has_ended)(uuid):
            return


def _has_ended(uuid: UUID) -> bool:
    try:
        return has_ended(uuid)
    finally:
        close_old_connections()


class _Operations(View):
    pagination_class = Pages
    ordering = ("-created_at", "uuid")

    def chosen(self, found: QuerySet[Operation]) -> QuerySet[Operation]:
        active = self.request.GET.get("active")
        if active is None:
            return found
        if active not in ("true", "false"):
            raise InvalidRequest("active: true or false.")
        return found.filter(ended_at__isnull=active == "true")


class TenantOperations(_Operations, TenantView):
    @extend_schema(parameters=[ACTIVE], responses=OperationOut(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """Of its containers and its own images, newest first."""
        return self.page(self.chosen(operations_of(self.tenant)), OperationOut)


class TenantOperation(TenantView):
    @extend_schema(parameters=[WAIT], responses=OperationOut)
    def get(self, request: Request, slug: str, uuid: UUID) -> Response:
        """One of them, at once or when it has ended."""
        wait_of(request)
        return Response(OperationOut(_find(operations_of(self.tenant), uuid)).data)


class TenantOperationEvents(TenantView):
    pagination_class = Pages
    ordering = ("pk",)

    @extend_schema(responses=OperationEventOut(many=True))
    def get(self, request: Request, slug: str, uuid: UUID) -> Response:
        """Its journal, oldest first."""
        return self.page(_journal(operations_of(self.tenant), uuid), OperationEventOut)


class CancelTenantOperation(TenantView):
    @extend_schema(request=None, responses={202: OperationOut})
    @once_per_key()
    def post(self, request: Request, slug: str, uuid: UUID) -> Response:
        """It undoes what it did and ends as cancelled, unless it arrives first or only goes forward."""
        found = _find(operations_of(self.tenant), uuid)
        return self.accepted(call_off_own(found, requested_by=actor_of(request)))


class FleetOperations(_Operations, OperatorView):
    @extend_schema(parameters=[ACTIVE], responses=FleetOperationOut(many=True))
    def get(self, request: Request) -> Response:
        """All, newest first."""
        return self.page(self.chosen(operations()), FleetOperationOut)


class FleetOperation(OperatorView):
    @extend_schema(parameters=[WAIT], responses=FleetOperationOut)
    def get(self, request: Request, uuid: UUID) -> Response:
        """One of them, at once or when it has ended."""
        wait_of(request)
        return Response(FleetOperationOut(_find(operations(), uuid)).data)


class FleetOperationEvents(OperatorView):
    pagination_class = Pages
    ordering = ("pk",)

    @extend_schema(responses=FleetOperationEventOut(many=True))
    def get(self, request: Request, uuid: UUID) -> Response:
        """Its journal, oldest first."""
        return self.page(_journal(operations(), uuid), FleetOperationEventOut)


class CancelFleetOperation(OperatorView):
    @extend_schema(request=None, responses={202: FleetOperationOut})
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """It undoes what it did and ends as cancelled, unless it arrives first or only goes forward."""
        return self.accepted(call_off(_find(operations(), uuid), requested_by=actor_of(request)))


class WakeFleetOperation(OperatorView):
    @extend_schema(request=None, responses={202: FleetOperationOut})
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """It tries its step now instead of when its pause is over."""
        return self.accepted(run_now(_find(operations(), uuid)))


def _find(among: QuerySet[Operation], uuid: UUID) -> Operation:
    operation = among.filter(pk=uuid).first()
    if operation is None:
        raise NotFound(operation=uuid)
    return operation


def _journal(among: QuerySet[Operation], uuid: UUID) -> QuerySet[OperationEvent]:
    return journal_of(_find(among, uuid))
