"""From rows to placement and back: who asks, what the hosts are like, and where each may go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from hosting.catalog.models import GoldenDisk
from hosting.compute.models import Instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.networks.models import Segment
from hosting.warm.models import Blank, BlankQuerySet
from worker.blanks import facts_of
from worker.nics import Nic, take_nic
from worker.placement import (
    HostView,
    NoPlace,
    Request,
    choose,
    explain,
    overhead_bytes,
)
from worker.workflow import Facts, Spawn, Wait, Workflow

LOOK_AGAIN = timedelta(seconds=30)
# A host that just said no is left in peace for so long.
SHUNNED = timedelta(minutes=1)


NotYet: TypeAlias = Wait | Spawn[Segment] | Spawn[Blank]
"""What has to be waited for."""


def take_place(instance: Instance, facts: Facts) -> NotYet | dict[str, Any]:
    """Reserve a host for `instance`, an address on its tenant's network, and say where its disks come from.

    In a ledger step, which was given the instance as it is. Facts that come of it: `host`, `golden` (the VDI
    to clone), `sr`; `nic` (worker/nics.py) if it has an interface; `blank` (worker/blanks.py) if it starts in one;
    `placed_now` if it had no host before.
    """
    if instance.published_at is None:
        place = _take_host(instance, facts)
        return _joined(place, _take_nic(place)) if isinstance(place, _Place) else place
    # It has its address. While its network is made anew no host need be held for it.
    nic = take_nic(instance)
    if isinstance(nic, (Wait, Spawn)):
        return nic
    place = _take_host(instance, facts)
    return _joined(place, nic) if isinstance(place, _Place) else place


@dataclass(frozen=True, slots=True)
class _Place:
    """`mac`: what its interface has already, if it has one."""

    instance: Instance
    facts: dict[str, Any]
    mac: str


def _joined(place: _Place, nic: Wait | Spawn[Segment] | Nic | None) -> NotYet | dict[str, Any]:
    if isinstance(nic, (Wait, Spawn)):
        return nic
    return place.facts if nic is None else {**place.facts, "nic": dict(nic)}


def _take_nic(place: _Place) -> Wait | Spawn[Segment] | Nic | None:
    """Where nothing is free, it waits without a place: another pool may have what this one has not."""
    instance = place.instance
    nic = take_nic(instance, mac=place.mac)
    if isinstance(nic, Wait):
        Blank.objects.all().put_back(instance)
        Instance.objects.all().leave_pool(instance)
    return nic


def _take_host(instance: Instance, facts: Facts) -> Wait | Spawn[Blank] | _Place:
    disks = _golden_disks(instance)
    if not disks:
        return Wait(LOOK_AGAIN, "The image is not on any pool yet.")
    is_new = instance.published_at is None
    if instance.host_id is not None:
        taken = Blank.objects.all().of(instance) if is_new else None
        return _place(instance, disks, taken)
    asked = replace(request_of(instance, shunned=shunned_in(facts)), srs=_HERE)
    # What is in a pool may have a VM there already, and must not get another.
    may_be_warm = is_new and instance.pool_id is None
    srs = {disk.sr_uuid for disk in disks.values()}
    warm = Blank.objects.all().fitting(instance, srs) if may_be_warm else None
    hosts = hosts_as_seen(list(disks), [instance.container.tenant_id], srs=srs, warm=warm)
    answer = choose(asked, hosts)
    if isinstance(answer, NoPlace):
        return _wait_for_room(asked, hosts, answer)
    is_warm = any(host.is_warm for host in hosts if host.uuid == answer.host)
    blank = Blank.objects.all().take(instance, answer.host, srs) if is_warm else None
    if blank is None and not Instance.objects.all().take_host(
        instance, answer.host, asked.memory_bytes
    ):
        return Wait(timedelta(0))  # another one was faster: look again
    return _place(_read_again(instance), disks, blank, placed_now=True)


def _read_again(instance: Instance) -> Instance:
    # Without the pool's certificates: this is read at each start.
    rows = Instance.objects.select_related("pool", "network", "container")
    return rows.defer("pool__candidates").get(pk=instance.pk)


def _place(
    instance: Instance, disks: Mapping[UUID, GoldenDisk], blank: Blank | None, **more: Any
) -> _Place:
    assert instance.pool_id is not None
    disk = disks[instance.pool_id]
    sources = {"golden": str(disk.vdi_uuid), "sr": str(disk.sr_uuid)}
    place = {"host": str(instance.host_id), **sources, "blank": facts_of(blank), **more}
    return _Place(instance, place, mac="" if blank is None else blank.mac)


def _wait_for_room(
    asked: Request, hosts: Sequence[HostView], answer: NoPlace
) -> Wait | Spawn[Blank]:
    """Blanks of other sizes, or on other hosts, make room before anybody waits for it."""
    why = explain(asked, answer)
    held = Blank.objects.all().holding().filter(host__in=[host.uuid for host in hosts])
    yielding: defaultdict[UUID, list[Blank]] = defaultdict(list)
    for blank in held.exclude(reserved_bytes=0).order_by("ready_at", "pk"):
        yielding[blank.host_id].append(blank)
    roomier = [
        replace(host, free_bytes=host.free_bytes + _held_by(yielding[host.uuid])) for host in hosts
    ]
    there = choose(asked, roomier)
    if isinstance(there, NoPlace):
        return Wait(LOOK_AGAIN, why)
    short = asked.memory_bytes - next(host.free_bytes for host in hosts if host.uuid == there.host)
    going: list[Blank] = []
    for blank in yielding[there.host]:
        if _held_by(going) < short:
            going.append(blank)
    # By its name: it is one of the workflows, and they stand upon this.
    discard = Workflow.registry["blank.discard"]
    return Spawn(discard, going, LOOK_AGAIN, f"{why} Room is being made.")


def _held_by(blanks: Iterable[Blank]) -> int:
    return sum(blank.reserved_bytes for blank in blanks)


def take_target(instance: Instance, facts: Facts) -> Wait | Spawn[Blank] | UUID:
    """Reserve a host for `instance` to move to: the one planned in `facts` if that still has room."""
    now = Instance.objects.select_related("container").get(pk=instance.pk)
    if now.target_id is not None:
        return now.target_id
    assert now.pool_id is not None
    shunned = {*shunned_in(facts), now.host_id}
    planned = UUID(facts["planned"]) if "planned" in facts else None
    if (
        planned is not None
        and planned not in shunned
        and Instance.objects.all().take_target(now, planned)
    ):
        return planned
    asked = request_of(now, shunned=shunned)
    hosts = hosts_as_seen([now.pool_id], [now.container.tenant_id])
    answer = choose(asked, hosts)
    if isinstance(answer, NoPlace):
        return _wait_for_room(asked, hosts, answer)
    if Instance.objects.all().take_target(now, answer.host):
        return answer.host
    return Wait(timedelta(0))  # another one was faster: look again


def request_of(instance: Instance, *, shunned: Collection[UUID | None] = ()) -> Request:
    """What `instance` needs of a host. Its memory is what is reserved for it already, if anything is."""
    need = instance.reserved_bytes or instance.memory_bytes + overhead_bytes(
        vcpus=instance.vcpus, memory_bytes=instance.memory_bytes
    )
    return Request(
        uuid=instance.pk,
        memory_bytes=need,
        vcpus=instance.vcpus,
        spread=frozenset({str(instance.container.tenant_id)}),
        not_on=frozenset(host for host in shunned if host is not None),
    )


def hosts_as_seen(
    pools: Collection[UUID],
    tenants: Collection[UUID],
    *,
    srs: Collection[UUID] = (),
    warm: BlankQuerySet | None = None,
) -> list[HostView]:
    """The hosts of these pools as they are now, with how many instances of these tenants each has.

    Of storage only this is told: which of them reach one of `srs`; of blanks: which of them have one of `warm`.
    """
    neighbours: defaultdict[UUID, dict[str, int]] = defaultdict(dict)
    there = Instance.objects.all().living().exclude(host=None).filter(container__tenant__in=tenants)
    counted = there.values_list("host_id", "container__tenant_id").annotate(count=Count("pk"))
    for host, tenant, count in counted.order_by():
        assert host is not None
        neighbours[host][str(tenant)] = count
    blanks = Blank.objects.none() if warm is None else warm.order_by()
    hosts = Host.objects.all().present().filter(pool__in=list(pools)).with_reach(list(srs))
    warmth = {"is_warm": Exists(blanks.filter(host=OuterRef("pk")))}
    hosts = hosts.annotate(**warmth)
    return [
        HostView(
            uuid=host.pk,
            name=host.name,
            free_bytes=host.memory_unreserved_bytes,
            accepting=host.state == HostState.ACCEPTING and host.enabled and host.live,
            cpu_count=host.cpu_count,
            srs=_HERE if host.is_reaching else frozenset(),
            neighbours=neighbours[host.pk],
            is_warm=host.is_warm,
        )
        for host in hosts.only(*_SEEN)
    ]


# What of a host's row is looked at.
_SEEN = (
    "name",
    "memory_capacity_bytes",
    "memory_reserved_bytes",
    "state",
    "enabled",
    "live",
    "cpu_count",
)
# Stands for "the SR that this pool's golden disk is on", so that hosts of several pools compare.
_HERE = frozenset({UUID(int=0)})


def _golden_disks(instance: Instance) -> dict[UUID, GoldenDisk]:
    """By pool; of the one it is in already, or of all. Of several builders' the newest."""
    ready = GoldenDisk.objects.all().ready().filter(digest=instance.container.version.digest)
    if instance.pool_id is not None:
        ready = ready.filter(pool=instance.pool_id)
    return {disk.pool_id: disk for disk in ready.order_by("created_at")}


# --------------------------------------------------------------------------------- hosts that said no


def shun(host: UUID | str | None, facts: Facts) -> dict[str, str]:
    """The fact "tried" with this host in it for a while."""
    until = (timezone.now() + SHUNNED).isoformat()
    still = {str(one): facts["tried"][str(one)] for one in shunned_in(facts)}
    return {**still, str(host): until} if host is not None else still


def shunned_in(facts: Facts) -> frozenset[UUID]:
    now = timezone.now()
    return frozenset(
        UUID(host)
        for host, until in facts.get("tried", {}).items()
        if datetime.fromisoformat(until) > now
    )
