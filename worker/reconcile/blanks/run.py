"""Opens the making and the discarding of blanks, so that each host has as many as its pool's policies say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.utils import timezone

from hosting.compute.models import SIZES
from hosting.errors import Conflict
from hosting.fleet.choices import DIRECT_BOOTS, HostState, PoolState, PowerState
from hosting.fleet.models import Host, Pool, VirtualMachine
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import request
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank, WarmPolicy
from worker.placement import overhead_bytes
from worker.reconcile.blanks.diff import BlankView, HostView, Prepare, Size, diff

REQUESTED_BY = "system:reconcile"
# After one that could not be made, or that made room for somebody.
LET_BE = timedelta(minutes=1)
# What the follower saw of one before this is older than its being ready.
SETTLED = timedelta(seconds=10)
_LEAVING = (HostState.DRAINING, HostState.MAINTENANCE)
# What is on these is a recovery's to see to.
_IN_DOUBT = (HostState.SUSPECT, HostState.FENCED, HostState.DEAD)


def reconcile_blanks(now: datetime | None = None) -> int:
    """How many operations were opened. A constant number of queries to look at a pool; one where there is nothing."""
    now = now or timezone.now()
    warm = Exists(WarmPolicy.objects.filter(pool=OuterRef("pk")))
    left = Exists(Blank.objects.all().holding().filter(pool=OuterRef("pk")))
    pools = Pool.objects.filter(warm | left, state=PoolState.CONNECTED).order_by("pk")
    return sum(_look(pool, now) for pool in pools.defer("candidates"))


def _look(pool: Pool, now: datetime) -> int:
    # Their disks are where images are, and so instances'.
    can = pool.boot_mode in DIRECT_BOOTS and pool.default_sr_uuid is not None
    policies = pool.warm_policies.all() if can else []
    wanted = {(one.vcpus, one.memory_bytes, one.disk_bytes): one.count for one in policies}
    needs = {size: size[1] + overhead_bytes(vcpus=size[0], memory_bytes=size[1]) for size in wanted}
    begun = 0
    for act in diff(list(_hosts(pool, now)), list(_blanks(pool, now)), wanted, needs):
        if isinstance(act, Prepare):
            begun += _prepare(pool, act.host, act.size)
        else:
            begun += _open("blank.discard", Blank.objects.get(pk=act.blank))
    return begun


@transaction.atomic
def _prepare(pool: Pool, host: UUID, size: Size) -> bool:
    sizes = dict(zip(SIZES, size, strict=True))
    blank = Blank.objects.create(pool=pool, host_id=host, **sizes)
    return _open("blank.prepare", blank)


def _open(kind: str, blank: Blank) -> bool:
    """False when somebody else was faster."""
    try:
        request(kind, blank, requested_by=REQUESTED_BY)
    except Conflict:
        return False
    return True


# --------------------------------------------------------------------------------------------- what there is


def _hosts(pool: Pool, now: datetime) -> Iterator[HostView]:
    lately = Blank.objects.filter(host=OuterRef("pk"), instance=None, ended_at__gt=now - LET_BE)
    hosts = Host.objects.filter(pool=pool).exclude(state__in=_IN_DOUBT)
    for host in hosts.annotate(spared=Exists(lately)).order_by("pk"):
        is_gone = host.gone_at is not None
        yield HostView(
            host.pk,
            host.memory_unreserved_bytes,
            is_open=host.state == HostState.ACCEPTING
            and host.enabled
            and host.live
            and not is_gone,
            is_leaving=host.state in _LEAVING or is_gone,
            is_spared=bool(getattr(host, "spared", False)),
        )


def _blanks(pool: Pool, now: datetime) -> Iterator[BlankView]:
    current = Blank.objects.all().ready().filter(pk=OuterRef("pk"))
    doing = Operation.objects.filter(blank=OuterRef("pk"), state__in=[State.ACTIVE, State.QUEUED])
    vm = VirtualMachine.objects.filter(pk=OuterRef("vm_uuid")).values("power_state")
    rows = (
        Blank.objects.all()
        .holding()
        .filter(pool=pool)
        .annotate(
            is_current=Exists(current),
            doing=Exists(doing),
            power_state=Subquery(vm[:1]),
            is_seen=Q(pool__last_seen_at__gt=F("ready_at") + SETTLED),
        )
    )
    for row in rows.values(
        "pk", "host", *SIZES, "state", "ready_at", "created_at",
        "is_current", "doing", "power_state", "is_seen",
    ):  # fmt: skip
        yield BlankView(
            row["pk"],
            row["host"],
            (row["vcpus"], row["memory_bytes"], row["disk_bytes"]),
            now - (row["ready_at"] or row["created_at"]),
            is_ready=row["state"] == BlankState.READY,
            is_retired=row["state"] == BlankState.RETIRED,
            doing=row["doing"],
            is_current=row["is_current"],
            is_there=not row["is_seen"] or row["power_state"] == PowerState.PAUSED,
        )
