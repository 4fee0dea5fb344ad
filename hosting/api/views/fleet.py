"""Pools and hosts, for operators."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hosting.api.callers import actor_of, address_of
from hosting.api.idempotency import once_per_key
from hosting.api.pages import Pages
from hosting.api.serializers import (
    FleetOperationOut,
    HostNameIn,
    HostOut,
    InstanceOut,
    PoolOut,
)
from hosting.api.views.base import OperatorView
from hosting.compute.selectors import instances_on, observe_instance
from hosting.errors import NotFound
from hosting.fleet.models import Host, Pool
from hosting.fleet.selectors import hosts, hosts_of, pools
from hosting.fleet.services import (
    confirm_host_is_off,
    cordon_host,
    declare_host_repaired,
    drain_host,
    return_host,
    uncordon_host,
)

ACCEPTED = {202: FleetOperationOut}


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


class Repaired(OperatorView):
    @extend_schema(request=None, responses=HostOut)
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """A dead host is on its feet again: it waits in maintenance until it is returned."""
        declare_host_repaired(_host(uuid), actor=actor_of(request), address=address_of(request))
        return Response(HostOut(_host(uuid)).data)


class Drain(OperatorView):
    @extend_schema(request=None, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """Everything moves off it, alive; then it is in maintenance. Cancel the operation to call it off."""
        operation = drain_host(_host(uuid), actor=actor_of(request), address=address_of(request))
        return self.accepted(operation)


class Return(OperatorView):
    @extend_schema(request=None, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """Out of maintenance: XAPI enables it, and it takes instances again."""
        operation = return_host(_host(uuid), actor=actor_of(request), address=address_of(request))
        return self.accepted(operation)


class ConfirmOff(OperatorView):
    @extend_schema(request=HostNameIn, responses=ACCEPTED)
    @once_per_key()
    def post(self, request: Request, uuid: UUID) -> Response:
        """You vouch that its machine has no power, and its recovery goes on.

        If it runs after all, its VMs will run twice and destroy their disks.
        """
        asked = HostNameIn(data=request.data)
        asked.is_valid(raise_exception=True)
        operation = confirm_host_is_off(
            _host(uuid),
            asked.validated_data["name"],
            actor=actor_of(request),
            address=address_of(request),
        )
        return self.accepted(operation)


class InstancesOfHost(OperatorView):
    pagination_class = Pages
    ordering = ("created_at", "uuid")

    @extend_schema(responses=InstanceOut(many=True))
    def get(self, request: Request, uuid: UUID) -> Response:
        """What holds memory of it: those that run there, and those that are coming."""
        return self.page(instances_on(_host(uuid)), InstanceOut, observe_instance)


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
