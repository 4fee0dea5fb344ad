"""One host: what is on it, what is being done with it, and what an operator does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from frontend.console.access import act, actor_of, address_of, form, page
from frontend.console.doing import DRAIN, VOUCH, doings_with
from frontend.console.showing import attempt, back, one_page, show
from hosting.alarms.selectors import audit_of
from hosting.compute.headroom import Loss, losses_of
from hosting.compute.models import Instance
from hosting.compute.selectors import Observed, instances_on, observe_instance
from hosting.fleet import services
from hosting.fleet.models import Host
from hosting.fleet.selectors import guests_of, hosts, pools
from hosting.operations.choices import State
from hosting.operations.models import Operation, OperationQuerySet
from hosting.operations.selectors import (
    active_operation_about,
    children_of,
    hosts_with_doings,
    operations_about,
)

HISTORY = 15


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the operation on a host is: `here` of the instances are left, `moved` are elsewhere."""

    operation: Operation
    moved: int
    here: int
    children: OperationQuerySet

    @property
    def total(self) -> int:
        return self.moved + self.here


def host_address(host: Host) -> str:
    return reverse("console:host", args=[host.pool_id, host.pk])


@page
def host_detail(request: HttpRequest, uuid: UUID, host: UUID) -> HttpResponse:
    pool = get_object_or_404(pools(), pk=uuid)
    found = get_object_or_404(hosts_with_doings(hosts()).filter(pool=pool), pk=host)
    instances = [observe_instance(one) for one in instances_on(found)]
    return show(
        request,
        "host",
        "pools",
        pool=pool,
        host=found,
        doings=doings_with(found),
        progress=_progress(found, instances),
        instances=instances,
        loss=losses_of(pool).get(found.pk, Loss(0, 0)),
        vms=one_page(guests_of(pool).filter(resident_on=found), request),
        storage=[pbd.sr for pbd in found.pbds.select_related("sr") if pbd.sr],
        history=operations_about(found)[:HISTORY],
        audit=audit_of(f"host:{found.pk}")[:HISTORY],
    )


def _progress(host: Host, instances: list[Observed]) -> Progress | None:
    operation = active_operation_about(host)
    if operation is None:
        return None
    children = children_of(operation)
    arrived = Instance.objects.filter(
        operations__parent=operation, operations__state=State.SUCCEEDED
    )
    return Progress(
        operation=operation,
        moved=arrived.exclude(host=host).exclude(host=None).distinct().count(),
        here=sum(_is_on(one, host) for one in instances),
        children=children[:HISTORY],
    )


def _is_on(observed: Observed, host: Host) -> bool:
    return observed.instance is not None and observed.instance.host_id == host.pk


@page
def host_anywhere(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Whoever knows the host and not its pool."""
    return redirect(host_address(_host(uuid)))


def _host(uuid: UUID) -> Host:
    return get_object_or_404(hosts_with_doings(hosts()), pk=uuid)


def _act(service: Callable[..., Any], done: str) -> Callable[..., HttpResponse]:
    """The page behind a button: do it, and go back to where the button was."""

    @act
    def view(request: HttpRequest, uuid: UUID) -> HttpResponse:
        host = _host(uuid)
        attempt(request, lambda: _do(service, request, host), done.format(host=host))
        return back(request, host_address(host))

    return view  # type: ignore[return-value]


def _do(service: Callable[..., Any], request: HttpRequest, host: Host, *more: str) -> Any:
    return service(host, *more, actor=actor_of(request), address=address_of(request))


cordon = _act(services.cordon_host, "{host} takes nothing new.")
uncordon = _act(services.uncordon_host, "{host} takes instances again.")
cancel_drain = _act(services.cancel_drain, "The draining of {host} is being called off.")
return_to_service = _act(services.return_host, "{host} is being returned to service.")
repaired = _act(services.declare_host_repaired, "{host} waits in maintenance to be returned.")


@form
def drain(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Asks first, and says what will happen."""
    host = _host(uuid)
    if request.method == "POST":
        attempt(
            request,
            lambda: _do(services.drain_host, request, host),
            f"{host} is being drained.",
        )
        return redirect(host_address(host))
    if DRAIN not in doings_with(host):
        return _too_late(request, host)
    instances = [observe_instance(one) for one in instances_on(host)]
    return show(
        request,
        "drain",
        "pools",
        host=host,
        leaving=[one for one in instances if _is_on(one, host)],
        loss=losses_of(host.pool).get(host.pk, Loss(0, 0)),
    )


@form
def confirm_off(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Asks for the host's name, since nothing else stands between two copies of its VMs."""
    host = _host(uuid)
    if request.method == "POST":
        typed = request.POST.get("name", "")
        if attempt(
            request,
            lambda: _do(services.confirm_host_is_off, request, host, typed),
            f"You have vouched that {host} is off. Its recovery goes on.",
        ):
            return redirect(host_address(host))
    if VOUCH not in doings_with(host):
        return _too_late(request, host)
    instances = [observe_instance(one) for one in instances_on(host)]
    return show(
        request,
        "confirm_off",
        "pools",
        status=200 if request.method != "POST" else 409,
        host=host,
        staying=[one for one in instances if _is_on(one, host)],
    )


def _too_late(request: HttpRequest, host: Host) -> HttpResponse:
    """The button was there when the page was drawn. What a service has said already is enough."""
    if request.method != "POST":
        messages.error(request, f"That is not to be done now: {host} is {host.state}.")
    return redirect(host_address(host))
