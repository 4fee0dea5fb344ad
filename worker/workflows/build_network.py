"""A tenant's network comes to be in a pool: a network there, and its VLAN on every host that lives."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting import labels
from hosting.compute.models import Instance
from hosting.networks.models import Segment
from hosting.operations.services import wake_about
from worker.hypervisor.port import Hypervisor, NetworkSpec
from worker.workflow import Done, Facts, Next, Outcome, Workflow

build_network = Workflow[Segment](
    "network.build", subject="segment", first="begin", deadline=timedelta(minutes=10)
)


@build_network.ledger
def begin(segment: Segment, facts: Facts) -> Outcome:
    return Next(build) if segment.retired_at is None else Done()


@build_network.remote
def build(segment: Segment, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Hosts that join meanwhile are looked after by the next one."""
    live = [str(host.uuid) for host in hypervisor.hosts() if host.live]
    marker = {
        labels.SEGMENT: str(segment.pk),
        labels.TENANT: str(segment.network.tenant_id),
    }
    spec = NetworkSpec(labels.network_name(segment.pk), marker)
    network = hypervisor.ensure_network(spec)
    hypervisor.ensure_vlan(network.uuid, device=segment.device, tag=segment.tag)
    return Next(note, network=network.uuid, hosts=live)


@build_network.ledger
def note(segment: Segment, facts: Facts) -> Outcome:
    """… and tell those that wait for it: of several only one asked for it."""
    hosts = [UUID(host) for host in facts["hosts"]]
    Segment.objects.all().note_made(segment, UUID(facts["network"]), hosts)
    waiting = (
        Instance.objects.all()
        .living()
        .filter(network=segment.network_id, pool=segment.pool_id, published_at=None)
    )
    wake_about({"instance": list(waiting.values_list("pk", flat=True))})
    return Done()
