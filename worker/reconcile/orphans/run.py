"""Opens the removal of what is left over in each pool, once it has been seen so for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.core.cache import cache
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from hosting import labels
from hosting.alarms.choices import Severity
from hosting.alarms.services import close_alarm, open_alarm
from hosting.catalog.models import GoldenDisk, ImageVersion
from hosting.compute.models import Instance
from hosting.errors import Conflict
from hosting.fleet.choices import PoolState, PowerState
from hosting.fleet.models import Network, Pool, Vbd, Vdi, Vif, VirtualMachine
from hosting.networks.models import Segment
from hosting.operations.choices import Queue, kinds_in
from hosting.operations.models import Operation
from hosting.operations.services import request
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from worker.reconcile.orphans.diff import (
    Disk,
    Ledger,
    Machine,
    Orphans,
    Wire,
    blanks_of,
    diff,
    instances_of,
)

REQUESTED_BY = "system:reconcile"
# Longer than any call of ours that may still be waiting its turn in a pool that answers (XAPI.md 4.3).
GRACE = timedelta(minutes=15)
AT_ONCE = 20
_REMEMBERED = 24 * 3600


def reconcile_orphans(now: datetime | None = None) -> int:
    """How many removals were opened. A memory that is lost only makes the wait begin anew.

    A constant number of queries a pool, whatever is in it.
    """
    now = now or timezone.now()
    return sum(_look(pool, now) for pool in Pool.objects.filter(state=PoolState.CONNECTED))


def _look(pool: Pool, now: datetime) -> bool:
    vms, vdis, wires = list(_machines(pool)), list(_disks(pool)), list(_wires(pool))
    found = diff(vms, vdis, wires, _ledger_about(vms, vdis, wires))
    _tell(pool, found.strangers)
    since = _remember(pool, found, now)
    due = sorted(uuid for uuid, at in since.items() if now - at >= GRACE)[:AT_ONCE]
    if not due:
        return False
    facts = {
        "vms": [str(uuid) for uuid in due if uuid in found.vms],
        "vdis": [str(uuid) for uuid in due if uuid in found.vdis],
        "networks": [str(uuid) for uuid in due if uuid in found.networks],
    }
    try:
        request("pool.sweep", pool, requested_by=REQUESTED_BY, facts=facts)
    except Conflict:
        return False
    return True


def _remember(pool: Pool, found: Orphans, now: datetime) -> Mapping[UUID, datetime]:
    """Since when each is an orphan, without a break."""
    key = f"orphans:{pool.pk}"
    known: dict[str, str] = cache.get(key) or {}
    since = {
        uuid: datetime.fromisoformat(known.get(str(uuid), now.isoformat())) for uuid in found.all
    }
    cache.set(key, {str(uuid): at.isoformat() for uuid, at in since.items()}, _REMEMBERED)
    return since


def _tell(pool: Pool, strangers: frozenset[UUID]) -> None:
    tag = f"strangers-in-pool:{pool.pk}"
    if not strangers:
        close_alarm(tag)
        return
    some = ", ".join(str(uuid) for uuid in sorted(strangers)[:3])
    open_alarm(
        tag,
        severity=Severity.WARNING,
        title=f"Pool {pool} has things of {len(strangers)} instances, blanks or networks that we do not know",
        detail=f"They carry our marker, for example {some}. They are left alone.",
    )


# --------------------------------------------------------------------------------------------- what there is


def _ledger_about(vms: Iterable[Machine], vdis: Iterable[Disk], wires: Iterable[Wire]) -> Ledger:
    known = Instance.objects.filter(pk__in=instances_of(vms, vdis)).values_list(
        "pk", "vm_uuid", "ended_at"
    )
    filling = {vdi.filling for vdi in vdis if vdi.filling}
    borrowed = {vdi.own for vdi in vdis if vdi.own and vdi.own != vdi.uuid}
    digests = ImageVersion.objects.filter(digest__in=filling).values_list("digest", flat=True)
    sources = GoldenDisk.objects.filter(vdi_uuid__in=borrowed).values_list("vdi_uuid", flat=True)
    segments = {wire.segment for wire in wires}
    made = Segment.objects.filter(pk__in=segments).values_list("pk", "network_uuid", "ended_at")
    found = Blank.objects.filter(pk__in=blanks_of(vms, vdis))
    blanks = dict(found.values_list("pk", "state"))
    ended_blanks = frozenset(one for one, state in blanks.items() if state == BlankState.ENDED)
    return Ledger(
        living={uuid: vm for uuid, vm, ended in known if ended is None},
        ended=frozenset(uuid for uuid, _, ended in known if ended is not None),
        digests=frozenset(digests),
        sources=frozenset(uuid for uuid in sources if uuid is not None),
        imports=Operation.objects.active().filter(kind__in=kinds_in(Queue.IMAGES)).exists(),
        segments={uuid: network for uuid, network, ended in made if ended is None},
        blanks=frozenset(blanks) - ended_blanks,
        ended_blanks=ended_blanks,
        ended_segments=frozenset(uuid for uuid, _, ended in made if ended is not None),
    )


def _machines(pool: Pool) -> Iterable[Machine]:
    marked = Q(instance_uuid__isnull=False) | Q(blank_uuid__isnull=False)
    ours = VirtualMachine.objects.filter(
        marked, pool=pool, is_a_template=False, is_a_snapshot=False
    )
    for uuid, instance, blank, state, doing in ours.values_list(
        "pk", "instance_uuid", "blank_uuid", "power_state", "current_operations"
    ):
        yield Machine(uuid, instance, state == PowerState.HALTED, not doing, blank=blank)


def _disks(pool: Pool) -> Iterable[Disk]:
    ours = Vdi.objects.filter(pool=pool, is_a_snapshot=False).exclude(marker={})
    used = Exists(Vbd.objects.filter(vdi=OuterRef("pk")))
    for uuid, marker, attached in ours.annotate(used=used).values_list("pk", "marker", "used"):
        yield Disk(
            uuid,
            attached,
            instance=labels.uuid_in(marker.get(labels.INSTANCE)),
            blank=labels.uuid_in(marker.get(labels.BLANK)),
            own=labels.uuid_in(marker.get(labels.VDI)),
            filling=marker.get(labels.FILLING),
        )


def _wires(pool: Pool) -> Iterable[Wire]:
    ours = Network.objects.filter(pool=pool).exclude(marker={})
    used = Exists(Vif.objects.filter(network=OuterRef("pk")))
    for uuid, marker, is_used in ours.annotate(used=used).values_list("pk", "marker", "used"):
        segment = labels.uuid_in(marker.get(labels.SEGMENT))
        if segment is not None:
            yield Wire(uuid, segment, is_used)
