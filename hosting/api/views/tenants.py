"""Who calls, their tenants, and each tenant's people, tokens and quota."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from hosting.api.callers import token_of, user_of
from hosting.api.idempotency import once_per_key
from hosting.api.pages import Pages
from hosting.api.serializers import (
    MemberOut,
    MeOut,
    NewTokenOut,
    QuotaOut,
    TenantOut,
    TokenIn,
    TokenOut,
)
from hosting.api.views.base import TenantView, View
from hosting.errors import NotFound
from tenants.choices import Scope
from tenants.models import Membership
from tenants.permissions import Action
from tenants.selectors import members_of, memberships_of, quota_of, tokens_of
from tenants.services import create_token, revoke_token


def _as_tenant(membership: Membership) -> dict[str, Any]:
    tenant = membership.tenant
    return {
        "slug": tenant.slug,
        "name": tenant.name,
        "role": membership.role,
        "created_at": tenant.created_at,
    }


class Me(View):
    @extend_schema(responses=MeOut)
    def get(self, request: Request) -> Response:
        """Who you are, and what you call with."""
        user, token = user_of(request), token_of(request)
        mine = memberships_of(user)
        if token is not None:
            mine = mine.filter(tenant=token.tenant)
        told = {
            "username": user.get_username(),
            "email": user.email,
            "is_operator": user.is_staff and token is None,
            "tenants": [_as_tenant(membership) for membership in mine],
            "token": token,
        }
        return Response(MeOut(told).data)


class Tenants(View):
    pagination_class = Pages
    ordering = ("tenant__slug",)

    @extend_schema(responses=TenantOut(many=True))
    def get(self, request: Request) -> Response:
        """The tenants that you belong to."""
        mine = memberships_of(user_of(request))
        token = token_of(request)
        if token is not None:
            mine = mine.filter(tenant=token.tenant)
        return self.page(mine, TenantOut, _as_tenant)


class OneTenant(TenantView):
    @extend_schema(responses=TenantOut)
    def get(self, request: Request, slug: str) -> Response:
        membership = memberships_of(user_of(request)).get(tenant=self.tenant)
        return Response(TenantOut(_as_tenant(membership)).data)


class Members(TenantView):
    pagination_class = Pages
    ordering = ("created_at", "pk")

    @extend_schema(responses=MemberOut(many=True))
    def get(self, request: Request, slug: str) -> Response:
        return self.page(members_of(self.tenant), MemberOut)


class QuotaView(TenantView):
    @extend_schema(responses=QuotaOut)
    def get(self, request: Request, slug: str) -> Response:
        """How much the tenant may have, and how much of that it has taken."""
        return Response(QuotaOut(quota_of(self.tenant)).data)


class Tokens(TenantView):
    needs = needs_to_read = Action.MANAGE
    pagination_class = Pages
    ordering = ("-created_at", "uuid")

    @extend_schema(responses=TokenOut(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """All tokens, dead ones too."""
        return self.page(tokens_of(self.tenant), TokenOut)

    @extend_schema(request=TokenIn, responses={201: NewTokenOut})
    @once_per_key(withhold=["secret"])
    def post(self, request: Request, slug: str) -> Response:
        """A new token of yours. Its secret is shown this once."""
        asked = TokenIn(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        token, secret = create_token(
            tenant=self.tenant,
            user=user_of(request),
            name=given["name"],
            scopes={Scope(scope) for scope in given["scopes"]},
            expires_at=given["expires_at"],
        )
        token = tokens_of(self.tenant).get(pk=token.pk)
        where = reverse("tenant-token", kwargs={"slug": slug, "uuid": token.pk})
        return Response(
            {**TokenOut(token).data, "secret": secret},
            status.HTTP_201_CREATED,
            headers={"Location": request.build_absolute_uri(where), "Cache-Control": "no-store"},
        )


class OneToken(TenantView):
    needs = needs_to_read = Action.MANAGE

    @extend_schema(responses=TokenOut)
    def get(self, request: Request, slug: str, uuid: UUID) -> Response:
        return Response(TokenOut(self._find(uuid)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, slug: str, uuid: UUID) -> Response:
        """Dead from now on. It stays in the list."""
        revoke_token(self._find(uuid))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _find(self, uuid: UUID) -> Any:
        token = tokens_of(self.tenant).filter(pk=uuid).first()
        if token is None:
            raise NotFound(token=uuid)
        return token
