"""A tenant's network goes from a pool where nothing of the tenant's is left. Its tag is free then."""

from __future__ import annotations

from datetime import timedelta

from hosting import labels
from hosting.networks.models import Segment
from worker.hypervisor.port import Hypervisor
from worker.workflow import Done, Facts, Next, Outcome, Workflow

remove_network = Workflow[Segment](
    "network.remove", subject="segment", first="retire", deadline=timedelta(hours=1)
)


@remove_network.ledger
def retire(segment: Segment, facts: Facts) -> Outcome:
    """Unless something was put on it: then it stays. From here on nothing is."""
    return Next(destroy) if Segment.objects.all().retire(segment) else Done()


@remove_network.remote
def destroy(segment: Segment, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """All of its name: of a call whose answer was lost there may be two."""
    for network in hypervisor.networks():
        if network.marker.get(labels.SEGMENT) == str(segment.pk):
            hypervisor.destroy_network(network.uuid)
    return Next(end)


@remove_network.ledger
def end(segment: Segment, facts: Facts) -> Outcome:
    Segment.objects.all().end(segment)
    return Done()
