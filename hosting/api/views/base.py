"""What views have in common: the tenant in the address, the operator's right, pages, the 202."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.urls import reverse
from rest_framework import status
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from hosting.api.callers import tenant_for, token_of, user_of
from hosting.api.pages import Pages
from hosting.api.serializers import FleetOperationOut, OperationOut
from hosting.operations.models import Operation
from tenants.confinement import confined_to
from tenants.models import Tenant
from tenants.permissions import Action

_READING = ("GET", "HEAD", "OPTIONS")


class View(APIView):
    """`matched_methods` take If-Match. `ordering` is that of its list."""

    matched_methods: ClassVar[Sequence[str]] = ()
    ordering: ClassVar[tuple[str, ...]] = ()

    def page(
        self,
        rows: QuerySet[Any],
        serializer: type[Serializer[Any]],
        show: Callable[[Any], Any] = lambda row: row,
    ) -> Response:
        """The page of `rows` that is asked for, in this view's ordering, each as `show` gives it."""
        pages = Pages()
        found = pages.paginate_queryset(rows, self.request, self) or []
        shown = serializer([show(row) for row in found], many=True)
        return pages.get_paginated_response(shown.data)


class TenantView(View):
    """Found through the tenant: `needs` is what a caller must be allowed there to write."""

    needs: ClassVar[Action] = Action.OPERATE
    needs_to_read: ClassVar[Action] = Action.VIEW
    tenant: Tenant

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        action = self.needs_to_read if request.method in _READING else self.needs
        self.tenant = tenant_for(request, kwargs["slug"], action)
        self._confine((request.method or "").lower())

    def _confine(self, name: str) -> None:
        """Let what answers see this tenant's rows only: `dispatch` looks it up by name after `initial`."""
        answer = getattr(self, name, None)
        if answer is None:
            return

        @wraps(answer)
        def confined(*args: Any, **kwargs: Any) -> Response:
            with confined_to(self.tenant):
                response: Response = answer(*args, **kwargs)
                return response

        setattr(self, name, confined)

    def accepted(self, operation: Operation) -> Response:
        """202: it takes long, and here it can be watched."""
        return Response(
            OperationOut(operation).data,
            status.HTTP_202_ACCEPTED,
            headers={"Location": self.operation_address(operation.uuid)},
        )

    def operation_address(self, uuid: UUID) -> str:
        return self.request.build_absolute_uri(
            reverse("tenant-operation", kwargs={"slug": self.tenant.slug, "uuid": uuid})
        )


class IsOperator(BasePermission):
    """By session: a token is a tenant's, and reaches nothing beyond it, whoever made it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return token_of(request) is None and user_of(request).is_staff


class OperatorView(View):
    permission_classes = [IsAuthenticated, IsOperator]

    def accepted(self, operation: Operation) -> Response:
        """202: it takes long, and here it can be watched."""
        where = reverse("operation", kwargs={"uuid": operation.uuid})
        return Response(
            FleetOperationOut(operation).data,
            status.HTTP_202_ACCEPTED,
            headers={"Location": self.request.build_absolute_uri(where)},
        )
