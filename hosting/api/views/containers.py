"""Containers: asked for here, made by workers."""

from __future__ import annotations

import re
from uuid import UUID

from django.db import transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hosting.api.callers import actor_of
from hosting.api.idempotency import once_per_key
from hosting.api.pages import Pages
from hosting.api.preconditions import etag_of, require_match
from hosting.api.serializers import ContainerIn, ContainerOut, OperationOut, OutputOut, ResizeIn
from hosting.api.views.base import TenantView
from hosting.catalog.selectors import find_image
from hosting.compute import services
from hosting.compute.choices import RestartPolicy
from hosting.compute.models import Container
from hosting.compute.output import MOST_LINES, last_lines
from hosting.compute.selectors import containers_of, find_container, observe
from hosting.compute.services import Sizes
from hosting.errors import InvalidRequest
from hosting.operations.models import Operation

ACCEPTED = {202: OperationOut}
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MOST_LINES, "default": 100},
    description="How many lines at most.",
)


def limit_of(request: Request) -> int:
    """Raises InvalidRequest."""
    asked = request.GET.get("limit", "100")
    if not _NUMBER.match(asked) or not 1 <= int(asked) <= MOST_LINES:
        raise InvalidRequest(f"limit: a whole number from 1 to {MOST_LINES}.")
    return int(asked)


class Containers(TenantView):
    pagination_class = Pages
    ordering = ("name",)

    @extend_schema(responses=ContainerOut(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """By name, with what each is at the moment."""
        return self.page(containers_of(self.tenant), ContainerOut, observe)

    @extend_schema(request=ContainerIn, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, slug: str) -> Response:
        """A container that shall run. Quota is taken at once; the operation ends when it runs."""
        asked = ContainerIn(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        _, operation = services.create_container(
            tenant=self.tenant,
            name=given["name"],
            image=find_image(tenant=self.tenant, uuid=given["image"]),
            requested_by=actor_of(request),
            command=given["command"],
            env=given["env"],
            sizes=Sizes(given["vcpus"], given["memory_bytes"], given["disk_bytes"]),
            restart_policy=RestartPolicy(given["restart_policy"]),
        )
        return self.accepted(operation)


class ContainerView(TenantView):
    def held(self, uuid: UUID) -> Container:
        """This container, as the request expects it by If-Match, and so until the transaction ends."""
        found = find_container(tenant=self.tenant, uuid=uuid)
        now = Container.objects.all().locked(found.pk)
        require_match(self.request, now.generation)
        return now


class OneContainer(ContainerView):
    matched_methods = ("PATCH", "DELETE")

    @extend_schema(responses=ContainerOut)
    def get(self, request: Request, slug: str, uuid: UUID) -> Response:
        found = find_container(tenant=self.tenant, uuid=uuid)
        tag = {"ETag": etag_of(found.generation)}
        return Response(ContainerOut(observe(found)).data, headers=tag)

    @extend_schema(request=ResizeIn, responses=ACCEPTED)
    @transaction.atomic
    def patch(self, request: Request, slug: str, uuid: UUID) -> Response:
        """Another size: it stops for that, and keeps its disks."""
        asked = ResizeIn(data=request.data)
        asked.is_valid(raise_exception=True)
        operation = services.resize_container(
            container=self.held(uuid), requested_by=actor_of(request), **asked.validated_data
        )
        return self.accepted(operation)

    @extend_schema(responses=ACCEPTED)
    @transaction.atomic
    def delete(self, request: Request, slug: str, uuid: UUID) -> Response:
        """With its disks, whatever is being done with it."""
        operation = services.delete_container(
            container=self.held(uuid), requested_by=actor_of(request)
        )
        return self.accepted(operation)


class Output(TenantView):
    @extend_schema(parameters=[LIMIT], responses=OutputOut)
    def get(self, request: Request, slug: str, uuid: UUID) -> Response:
        """Its newest lines of output. Some hundreds are kept, for a week at most."""
        most = limit_of(request)
        instance = observe(find_container(tenant=self.tenant, uuid=uuid)).instance
        lines = last_lines(instance.pk, most) if instance is not None else []
        return Response(OutputOut({"lines": lines}).data)


class _Verb(ContainerView):
    matched_methods = ("POST",)

    def ask(self, container: Container, requested_by: str) -> Operation:
        raise NotImplementedError

    @extend_schema(request=None, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, slug: str, uuid: UUID) -> Response:
        return self.accepted(self.ask(self.held(uuid), actor_of(request)))


class Start(_Verb):
    def ask(self, container: Container, requested_by: str) -> Operation:
        return services.start_container(container=container, requested_by=requested_by)


class Stop(_Verb):
    def ask(self, container: Container, requested_by: str) -> Operation:
        return services.stop_container(container=container, requested_by=requested_by)


class Restart(_Verb):
    def ask(self, container: Container, requested_by: str) -> Operation:
        return services.restart_container(container=container, requested_by=requested_by)
