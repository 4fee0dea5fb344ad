"""Pools, with their hosts, storage and VMs."""

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from frontend.console.access import page
from frontend.console.doing import doings_with
from frontend.console.showing import one_page, show, text_in
from hosting.alarms.selectors import standing_alarms
from hosting.compute.headroom import losses_of
from hosting.fleet.choices import PowerState
from hosting.fleet.models import VirtualMachine
from hosting.fleet.selectors import guests_of, hosts_of, pools, storage_of, summary_of
from hosting.operations.selectors import hosts_with_doings
from hosting.warm.selectors import warmth_of

# The rest is on the page of alarms.
_ALARMS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class VmFilter:
    """What the operator narrowed the list of VMs to; nonsense in the address narrows nothing."""

    text: str
    power_state: str
    host: UUID | None

    @classmethod
    def of(cls, request: HttpRequest) -> "VmFilter":
        state = request.GET.get("state", "")
        try:
            host = UUID(request.GET["host"]) if request.GET.get("host") else None
        except ValueError:
            host = None
        return cls(
            text=text_in(request, "q"),
            power_state=state if state in PowerState.values else "",
            host=host,
        )

    def apply(self, vms: QuerySet[VirtualMachine]) -> QuerySet[VirtualMachine]:
        if self.text:
            named = Q(name__icontains=self.text)
            with suppress(ValueError):
                named |= Q(uuid=UUID(self.text))
            vms = vms.filter(named)
        if self.power_state:
            vms = vms.filter(power_state=self.power_state)
        if self.host:
            vms = vms.filter(resident_on=self.host)
        return vms

    @property
    def is_set(self) -> bool:
        return bool(self.text or self.power_state or self.host)


@page
def pool_list(request: HttpRequest) -> HttpResponse:
    found = list(pools()[:2])
    if len(found) == 1:
        return redirect("console:pool", uuid=found[0].pk)
    listed = [(pool, summary_of(pool)) for pool in pools()]
    return show(request, "pools", "pools", pools=listed)


@page
def pool_detail(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One pool. The page asks for itself again when the follower saw a change (`live`)."""
    pool = get_object_or_404(pools(), pk=uuid)
    narrowed = VmFilter.of(request)
    hosts = list(hosts_with_doings(hosts_of(pool)))
    losses = losses_of(pool)
    warmth = warmth_of(pool)
    alarms = list(standing_alarms()[: _ALARMS_SHOWN + 1])
    return show(
        request,
        "pool",
        "pools",
        pool=pool,
        summary=summary_of(pool),
        hosts=[
            (host, doings_with(host), losses.get(host.pk), warmth.on(host.pk)) for host in hosts
        ],
        warmth=warmth,
        short_of_room=[host for host in hosts if host.pk in losses and losses[host.pk].waiting],
        storage=storage_of(pool),
        vms=one_page(narrowed.apply(guests_of(pool)), request),
        filter=narrowed,
        power_states=PowerState.values,
        alarms=alarms[:_ALARMS_SHOWN],
        more_alarms=len(alarms) > _ALARMS_SHOWN,
    )
