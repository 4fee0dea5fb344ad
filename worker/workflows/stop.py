"""A container ends because somebody wants it to: asked first, made to at the end of its grace.

Its disks stay, its host's memory is given back.
"""

from __future__ import annotations

from datetime import timedelta

from hosting.compute.models import Instance
from worker import machines
from worker.hypervisor.port import Hypervisor
from worker.workflow import Done, Facts, Next, Outcome, Workflow

stop = Workflow[Instance](
    "instance.stop", subject="instance", first="begin", deadline=timedelta(minutes=5)
)


@stop.ledger
def begin(instance: Instance, facts: Facts) -> Outcome:
    if instance.pool_id is None:
        return Next(settle)
    return Next(end, grace=machines.grace_from_now())


@stop.remote
def end(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    return machines.stop(hypervisor, instance, facts) or Next(settle)


@stop.ledger
def settle(instance: Instance, facts: Facts) -> Outcome:
    Instance.objects.all().leave_host(instance)
    Instance.objects.filter(pk=instance.pk).update(
        restarts=0, generation=instance.container.generation
    )
    return Done()
