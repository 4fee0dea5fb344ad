"""The catalogue, as a tenant sees it: its own images, and everybody's."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hosting.api.callers import actor_of
from hosting.api.idempotency import once_per_key
from hosting.api.pages import Pages
from hosting.api.serializers import ImageIn, ImageOut, OperationOut
from hosting.api.views.base import TenantView
from hosting.catalog import services
from hosting.catalog.models import Image
from hosting.catalog.selectors import find_image, images_of
from hosting.errors import Forbidden

ACCEPTED = {202: OperationOut}


class Images(TenantView):
    pagination_class = Pages
    ordering = ("name", "uuid")

    @extend_schema(responses=ImageOut(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """What containers may be made from."""
        return self.page(images_of(self.tenant), ImageOut)

    @extend_schema(request=ImageIn, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, slug: str) -> Response:
        """Import: the reference is resolved once and pinned by its digest."""
        asked = ImageIn(data=request.data)
        asked.is_valid(raise_exception=True)
        _, operation = services.import_image(
            tenant=self.tenant, requested_by=actor_of(request), **asked.validated_data
        )
        return self.accepted(operation)


class ImageView(TenantView):
    def own(self, uuid: UUID) -> Image:
        """Raises Forbidden for one that is everybody's: operators look after those."""
        image = find_image(tenant=self.tenant, uuid=uuid)
        if image.tenant_id is None:
            raise Forbidden("That image is everybody's.", code="image_is_everybodys")
        return image


class OneImage(ImageView):
    @extend_schema(responses=ImageOut)
    def get(self, request: Request, slug: str, uuid: UUID) -> Response:
        return Response(ImageOut(find_image(tenant=self.tenant, uuid=uuid)).data)

    @extend_schema(responses=ACCEPTED)
    @transaction.atomic
    def delete(self, request: Request, slug: str, uuid: UUID) -> Response:
        """Out of the catalogue at once, unless containers are made from it."""
        operation = services.remove_image(image=self.own(uuid), requested_by=actor_of(request))
        return self.accepted(operation)


class RefreshImage(ImageView):
    @extend_schema(request=None, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, slug: str, uuid: UUID) -> Response:
        """See what its reference names now. Containers keep what they were made from."""
        operation = services.refresh_image(image=self.own(uuid), requested_by=actor_of(request))
        return self.accepted(operation)
