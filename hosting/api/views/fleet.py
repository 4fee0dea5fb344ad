"""Pools and hosts, for operators."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hosting.api.callers import actor_of, address_of
from hosting.api.idempotency import once_per_key
from hosting.api.pages import Pages
from hosting.api.serializers import HostOut, PoolOut
from hosting.api.views.base import OperatorView
from hosting.errors import NotFound
from hosting.fleet.models import Host, Pool
from hosting.fleet.selectors import hosts, hosts_of, pools
from hosting.fleet.services import cordon_host, uncordon_host


class PoolsView(OperatorView):
    pagination_class = Pages
    ordering = ("name",)

    @extend_schema(responses=PoolOut(many=True))
    def get(self, request: Request) -> Response:
        return self.page(pools(), PoolOut)


class OnePool(OperatorView):
    @extend_schema(responses=PoolOut)
    def get(self, request: Request, uuid: UUID) -> Response:
        return Response(PoolOut(_pool(uuid)).data)


class HostsOfPool(OperatorView):
    pagination_class = Pages
    ordering = ("name", "uuid")

    @extend_schema(responses=HostOut(many=True))
    def get(self, request: Request, uuid: UUID) -> Response:
        """Those that the pool lists."""
        return self.page(hosts_of(_pool(uuid)), HostOut)


class OneHost(OperatorView):
    @extend_schema(responses=HostOut)
    def get(self, request: Request, uuid: UUID) -> Response:
        return Response(HostOut(_host(uuid)).data)


class Cordon(OperatorView):
    @extend_schema(request=None, responses=HostOut)
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """Nothing new onto it; what is there stays."""
        cordon_host(_host(uuid), actor=actor_of(request), address=address_of(request))
        return Response(HostOut(_host(uuid)).data)


class Uncordon(OperatorView):
    @extend_schema(request=None, responses=HostOut)
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """It takes instances again."""
        uncordon_host(_host(uuid), actor=actor_of(request), address=address_of(request))
        return Response(HostOut(_host(uuid)).data)


def _pool(uuid: UUID) -> Pool:
    pool = pools().filter(pk=uuid).first()
    if pool is None:
        raise NotFound(pool=uuid)
    return pool


def _host(uuid: UUID) -> Host:
    host = hosts().filter(pk=uuid).first()
    if host is None:
        raise NotFound(host=uuid)
    return host
