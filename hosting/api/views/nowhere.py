"""Addresses that are none: a problem too, and not a page for browsers."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from hosting.api.views.base import View
from hosting.errors import NotFound


@extend_schema(exclude=True)
class Nowhere(View):
    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound("There is no such address.")
