"""Opens what is missing of tenants' networks, removes those that nothing is on, and tells what is used up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from hosting.alarms.choices import Severity
from hosting.alarms.services import Wanted, let_stand
from hosting.compute.models import Instance
from hosting.errors import Conflict
from hosting.fleet.choices import PoolState
from hosting.fleet.models import Host, Pool
from hosting.networks.addresses import first_free_subnet, room_in
from hosting.networks.models import Network, Segment
from hosting.operations.services import request
from worker.reconcile.networks.diff import View, diff

REQUESTED_BY = "system:reconcile"
CODE = "network-full"


def reconcile_networks(now: datetime | None = None) -> int:
    """How many operations were opened."""
    now = now or timezone.now()
    let_stand([CODE], _full())
    return sum(_look(pool, now) for pool in Pool.objects.filter(state=PoolState.CONNECTED))


def _look(pool: Pool, now: datetime) -> int:
    live = set(Host.objects.present().filter(pool=pool, live=True).values_list("pk", flat=True))
    return sum(_open(segment, act) for segment, act in diff(_views(pool, now), live))


def _views(pool: Pool, now: datetime) -> Iterator[View]:
    on_it = Instance.objects.filter(network=OuterRef("network"), pool=OuterRef("pool"))
    last = on_it.order_by().values("network").annotate(at=Max("ended_at")).values("at")
    segments = (
        Segment.objects.all()
        .living()
        .filter(pool=pool)
        .annotate(
            used=Exists(on_it.filter(ended_at=None)), left=Coalesce(Subquery(last), "created_at")
        )
    )
    for uuid, hosts, made, retired, used, left in segments.values_list(
        "pk", "hosts", "network_uuid", "retired_at", "used", "left"
    ):
        yield View(
            uuid,
            frozenset(hosts),
            is_made=made is not None,
            is_retired=retired is not None,
            idle_for=None if used else now - left,
        )


def _open(segment: UUID, kind: str) -> bool:
    try:
        request(kind, Segment.objects.get(pk=segment), requested_by=REQUESTED_BY)
    except Conflict:
        return False
    return True


# ---------------------------------------------------------------------------------------- what is used up


def _full() -> Iterator[Wanted]:
    yield from _no_subnet_left()
    yield from _no_tag_left()
    yield from _no_address_left()


def _no_subnet_left() -> Iterator[Wanted]:
    taken = Network.objects.values_list("subnet", flat=True)
    within, prefix = settings.NETWORK_RANGE, settings.NETWORK_PREFIX
    if first_free_subnet(taken, within, prefix) is None:
        yield _alarm("range", f"{within} has no subnet left for another tenant", "")


def _no_tag_left() -> Iterator[Wanted]:
    taken: Counter[UUID] = Counter()
    living = Segment.objects.all().living()
    here = living.filter(tag__gte=F("pool__vlan_first"), tag__lte=F("pool__vlan_last"))
    for row in here.order_by().values("pool").annotate(number=Count("pk")):
        taken[row["pool"]] = row["number"]
    for pool in Pool.objects.exclude(network_device=""):
        if taken[pool.pk] > pool.vlan_last - pool.vlan_first:
            tags = f"VLANs {pool.vlan_first} to {pool.vlan_last}"
            yield _alarm(f"pool.{pool.pk}", f"Pool {pool} has no VLAN left", f"{tags} are taken.")


def _no_address_left() -> Iterator[Wanted]:
    living = Count("instances", filter=Q(instances__ended_at=None))
    networks = Network.objects.annotate(taken=living).order_by()
    for uuid, subnet, tenant, taken in networks.values_list(
        "pk", "subnet", "tenant__slug", "taken"
    ):
        if taken >= room_in(subnet):
            title = f"The network of tenant {tenant} has no address left"
            yield _alarm(f"network.{uuid}", title, f"Its subnet is {subnet}.")


def _alarm(about: str, title: str, detail: str) -> Wanted:
    return Wanted(f"{CODE}:{about}", Severity.WARNING, title, detail)
