"""A container goes, with all that was made for it. Only forward: what is absent is done."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog
from django.db import transaction

from hosting.compute.models import Instance
from hosting.compute.output import forget_lines
from hosting.compute.services import release_container
from hosting.errors import Unavailable
from worker import machines
from worker.hypervisor.port import Hypervisor
from worker.workflow import Done, Facts, Next, Outcome, Workflow

log = structlog.get_logger(__name__)

teardown = Workflow[Instance](
    "instance.teardown", subject="instance", first="retire", deadline=timedelta(minutes=15)
)


@teardown.ledger
def retire(instance: Instance, facts: Facts) -> Outcome:
    if instance.pool_id is None:
        return Next(release)  # never placed: nothing was made of it anywhere
    return Next(stop, grace=machines.grace_from_now())


@teardown.remote
def stop(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    return machines.stop(hypervisor, instance, facts) or Next(unmake_vm)


@teardown.remote
def unmake_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    machines.unmake_vm(hypervisor, instance)
    return Next(unmake_disks)


@teardown.remote
def unmake_disks(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    machines.unmake_disks(hypervisor, instance)
    return Next(release)


@teardown.ledger
def release(instance: Instance, facts: Facts) -> Outcome:
    release_container(instance)
    transaction.on_commit(partial(_forget_output, instance.pk))
    return Done()


def _forget_output(instance: UUID) -> None:
    try:
        forget_lines(instance)
    except Unavailable:
        # Nobody can ask for it any more, and it goes by itself after a while (output.KEPT).
        log.warning("output_not_forgotten", instance=str(instance))
