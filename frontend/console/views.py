"""The operators' pages: pools, their hosts, storage and VMs."""

from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from frontend.console.access import operator_required
from hosting.alarms.selectors import standing_alarms
from hosting.fleet.choices import PowerState
from hosting.fleet.models import Pool, VirtualMachine
from hosting.fleet.selectors import guests_of, hosts_of, pools, storage_of, summary_of

VMS_PER_PAGE = 50


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
            text=request.GET.get("q", "").strip()[:100],
            power_state=state if state in PowerState.values else "",
            host=host,
        )

    def apply(self, vms: QuerySet[VirtualMachine]) -> QuerySet[VirtualMachine]:
        if self.text:
            # PostgreSQL refuses NUL in text.
            text = self.text.replace("\0", "")
            named = Q(name__icontains=text)
            with suppress(ValueError):
                named |= Q(uuid=UUID(text))
            vms = vms.filter(named)
        if self.power_state:
            vms = vms.filter(power_state=self.power_state)
        if self.host:
            vms = vms.filter(resident_on=self.host)
        return vms

    @property
    def is_set(self) -> bool:
        return bool(self.text or self.power_state or self.host)


@never_cache
@require_safe
@operator_required
def pool_list(request: HttpRequest) -> HttpResponse:
    found = list(pools()[:2])
    if len(found) == 1:
        return redirect("console:pool", uuid=found[0].pk)
    listed = [(pool, summary_of(pool)) for pool in pools()]
    return render(request, "console/pools.html", {"pools": listed})


@never_cache
@require_safe
@operator_required
def pool_detail(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One pool. The page asks for itself again when the follower saw a change (`live`)."""
    pool = get_object_or_404(pools(), pk=uuid)
    narrowed = VmFilter.of(request)
    context = {
        "pool": pool,
        "summary": summary_of(pool),
        "hosts": hosts_of(pool),
        "storage": storage_of(pool),
        "vms": _page(narrowed.apply(guests_of(pool)), request),
        "filter": narrowed,
        "power_states": PowerState.values,
        "alarms": standing_alarms(),
    }
    return render(request, "console/pool.html", context)


def _page(vms: QuerySet[VirtualMachine], request: HttpRequest) -> "Page[VirtualMachine]":
    return Paginator(vms, VMS_PER_PAGE).get_page(request.GET.get("page"))


@never_cache
@require_safe
@operator_required
def host_detail(request: HttpRequest, uuid: UUID, host: UUID) -> HttpResponse:
    pool: Pool = get_object_or_404(pools(), pk=uuid)
    found = get_object_or_404(hosts_of(pool), pk=host)
    vms = guests_of(pool).filter(resident_on=found)
    return render(
        request,
        "console/host.html",
        {
            "pool": pool,
            "host": found,
            "vms": _page(vms, request),
            "storage": [pbd.sr for pbd in found.pbds.select_related("sr") if pbd.sr],
        },
    )
