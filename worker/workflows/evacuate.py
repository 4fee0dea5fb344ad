"""A host is emptied alive and put into maintenance: nothing new comes, everything on it moves off, blanks go.

The plan is made once and stored; each move tries its planned target first. Who arrives late, or was refused,
is found by looking afresh. Called off, the host takes instances again; what has moved stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from hosting.compute.models import Instance, InstanceQuerySet
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.operations.services import cancel
from hosting.warm.models import Blank
from worker.hypervisor.port import Hypervisor
from worker.placement import plan
from worker.places import hosts_as_seen, request_of
from worker.workflow import Done, Facts, Failed, Next, Outcome, Spawn, Workflow
from worker.workflows.discard_blank import discard_blank
from worker.workflows.migrate import migrate

LOOK_AGAIN = timedelta(seconds=10)
# Moves at once off one host: more only make each slower (XAPI.md 6.2, 7).
AT_ONCE = 3

evacuate = Workflow[Host](
    "host.evacuate",
    subject="host",
    first="cordon",
    undo="enable",
    deadline=timedelta(minutes=30),
)


@evacuate.ledger
def cordon(host: Host, facts: Facts) -> Outcome:
    if not Host.objects.filter(pk=host.pk).move_to(HostState.DRAINING) and not _is_draining(host):
        return Failed("host_not_in_service", f"The host is {host.state}.")
    return Next(discard_blanks)


def _is_draining(host: Host) -> bool:
    return Host.objects.filter(pk=host.pk, state=HostState.DRAINING).exists()


@evacuate.ledger
def discard_blanks(host: Host, facts: Facts) -> Outcome:
    """They are nobody's and worth nothing elsewhere: XAPI moves no VM that stands still (XAPI.md 4.1)."""
    there = list(Blank.objects.all().holding().filter(host=host).order_by("pk"))
    if not there:
        return Next(plan_moves)
    for making in Operation.objects.active().filter(kind="blank.prepare", blank__in=there):
        cancel(making, requested_by=f"system:{evacuate.kind}")
    return Spawn(discard_blank, there, LOOK_AGAIN, f"{len(there)} blanks on it still.")


@evacuate.ledger
def plan_moves(host: Host, facts: Facts) -> Outcome:
    """Instance → host, for those that fit; the others are placed when there is room."""
    still = list(_still_on(host).select_related("container"))
    tenants = {one.container.tenant_id for one in still}
    made = plan([request_of(one) for one in still], hosts_as_seen([host.pool_id], tenants))
    return Next(
        empty, plan={str(instance): str(target) for instance, target in made.places.items()}
    )


@evacuate.ledger
def empty(host: Host, facts: Facts) -> Outcome:
    """Move whoever is still here, a few at a time; what starts or stops here now is looked at again."""
    still = list(_still_on(host).select_related("container"))
    coming = Instance.objects.all().living().filter(target=host).exists()
    if not still and not coming:
        return Next(disable)
    busy = Operation.objects.active().filter(instance__in=still)
    idle = [one for one in still if one.pk not in set(busy.values_list("instance", flat=True))]
    moving = busy.filter(kind=migrate.kind).count()
    return Spawn(
        migrate,
        idle[: max(AT_ONCE - moving, 0)],
        LOOK_AGAIN,
        reason=_reason(host, still),
        facts_of=lambda instance: _planned(instance, facts["plan"]),
    )


@evacuate.remote
def disable(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Nor may anybody else start something there."""
    hypervisor.disable_host(host.pk)
    return Next(maintain)


@evacuate.ledger(can_turn_back=False)
def maintain(host: Host, facts: Facts) -> Outcome:
    if _still_on(host).exists():
        return Next(empty)  # it came between the look and the lock
    Host.objects.filter(pk=host.pk).move_to(HostState.MAINTENANCE)
    return Done()


# ------------------------------------------------------------------------------------------- the way back


@evacuate.remote
def enable(host: Host, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    hypervisor.enable_host(host.pk)
    return Next(uncordon)


@evacuate.ledger
def uncordon(host: Host, facts: Facts) -> Outcome:
    Host.objects.filter(pk=host.pk).move_to(HostState.ACCEPTING)
    return Failed()


# --------------------------------------------------------------------------------------------------------


def _still_on(host: Host) -> InstanceQuerySet:
    return Instance.objects.all().living().filter(host=host).order_by("-memory_bytes", "pk")


def _planned(instance: Instance, planned: Mapping[str, str]) -> Facts:
    target = planned.get(str(instance.pk))
    return {} if target is None else {"planned": target}


def _reason(host: Host, still: list[Instance]) -> str:
    waiting = Operation.objects.filter(state=State.ACTIVE, instance__in=still).exclude(detail="")
    why = waiting.values_list("detail", flat=True).first()
    return f"{len(still)} on it still. {why or ''}".strip()
