"""Alarms, for operators."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hosting.alarms.selectors import recent_alarms
from hosting.api.pages import Pages
from hosting.api.serializers import AlarmOut
from hosting.api.views.base import OperatorView
from hosting.errors import InvalidRequest

STANDING = OpenApiParameter(
    "standing", OpenApiTypes.BOOL, description="Only those that stand, or that are closed."
)


class Alarms(OperatorView):
    pagination_class = Pages
    ordering = ("-opened_at", "-pk")

    @extend_schema(parameters=[STANDING], responses=AlarmOut(many=True))
    def get(self, request: Request) -> Response:
        """Newest first."""
        standing = request.GET.get("standing")
        if standing not in (None, "true", "false"):
            raise InvalidRequest("standing: true or false.")
        found = recent_alarms()
        if standing is not None:
            found = found.filter(closed_at__isnull=standing == "true")
        return self.page(found, AlarmOut)
