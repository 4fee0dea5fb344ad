"""A new container comes to life: placed, its disks made, its VM made and started.

Where a blank of its size is ready, that becomes its VM; when it cannot, one is made as if there had been none.
Until it has run once, a refusal undoes all of it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Coalesce, Now

from hosting.compute.models import Instance
from hosting.warm.models import Blank
from worker import blanks, machines
from worker.hypervisor.port import Hypervisor, VmRecord
from worker.nics import NetworkLost, forget_network
from worker.places import shun, take_place
from worker.workflow import Done, Facts, Failed, Next, Outcome, Wait, Workflow

provision = Workflow[Instance](
    "instance.provision",
    subject="instance",
    first="place",
    undo="begin_to_unmake",
    no_room="elsewhere",
    deadline=timedelta(minutes=10),
)


@provision.ledger
def place(instance: Instance, facts: Facts) -> Outcome:
    found = take_place(instance, facts)
    return Next(build_disks, **found) if isinstance(found, dict) else found


@provision.remote
def build_disks(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    disks = machines.build_disks(hypervisor, instance, facts)
    return Next(build_vm if facts.get("blank") is None else wake_blank, disks=disks)


@provision.remote(can_turn_back=False)
def wake_blank(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Its guest has booted already: when it has what to run, all is done.

    What the pool refuses here makes nobody turn back: then it starts as if there had been no blank.
    """
    try:
        blanks.wake(hypervisor, instance, facts)
    except NetworkLost:
        return Next(join_again)
    except blanks.NotWarm:
        return Next(unmake_blank)
    return Next(publish, vm=facts["blank"]["vm"])


@provision.remote(can_turn_back=False)
def unmake_blank(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Nobody else ever gets it."""
    blanks.unmake_taken(hypervisor, facts)
    return Next(forget_blank)


@provision.ledger
def forget_blank(instance: Instance, facts: Facts) -> Outcome:
    """The place that it kept is the instance's. Of its disks the one is missing that was the blank's."""
    Blank.objects.all().use_up(instance)
    return Next(build_disks, blank=None)


@provision.remote
def build_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """… and start it, in the one step: what was just made need not be looked at again."""
    try:
        vm = machines.build_vm(hypervisor, instance, facts)
    except NetworkLost:
        return Next(join_again)
    return Next(await_running, vm=vm.uuid, **_begun(hypervisor, vm, facts))


@provision.remote
def await_running(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """The follower tells when its guest has booted, or its start has failed."""
    vm = hypervisor.vm(UUID(facts["vm"]))
    started = machines.has_started(hypervisor, vm, facts["task"])
    if isinstance(started, Wait):
        return started
    return Next(publish if started else start_again)


@provision.remote
def start_again(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """The VM that was started already, or none: another one must not be made."""
    vm = hypervisor.vm(UUID(facts["vm"]))
    return Next(await_running, **_begun(hypervisor, vm, facts))


def _begun(hypervisor: Hypervisor, vm: VmRecord, facts: Facts) -> dict[str, Any]:
    """It is being started, and takes a while."""
    return {"task": machines.start(hypervisor, vm, UUID(facts["host"])), "after": machines.SOON}


@provision.ledger(can_turn_back=False)
def publish(instance: Instance, facts: Facts) -> Outcome:
    if facts.get("blank") is not None:
        Blank.objects.all().use_up(instance)
    machines.note_start(
        instance,
        facts,
        generation=instance.container.generation,
        published_at=Coalesce("published_at", Now()),
    )
    return Done()


@provision.ledger
def join_again(instance: Instance, facts: Facts) -> Outcome:
    """Somebody removed the tenant's network from the pool: it is made anew."""
    forget_network(facts["nic"])
    return Next(place)


@provision.ledger
def elsewhere(instance: Instance, facts: Facts) -> Outcome:
    """The host had no room after all, whatever its ledger said."""
    Blank.objects.all().give_up(instance)
    Instance.objects.all().leave_host(instance)
    return Next(place, tried=shun(facts.get("host"), facts))


# ------------------------------------------------------------------------------------------- the way back


@provision.ledger
def begin_to_unmake(instance: Instance, facts: Facts) -> Outcome:
    """One that no host was found for is in no pool yet. A blank that it has taken goes with it."""
    if instance.pool_id is None:
        return Next(release)
    return Next(unmake_vm, blank=blanks.facts_of(Blank.objects.all().of(instance)))


@provision.remote
def unmake_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    blanks.unmake_taken(hypervisor, facts)
    machines.unmake_vm(hypervisor, instance)
    return Next(unmake_disks)


@provision.remote
def unmake_disks(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    machines.unmake_disks(hypervisor, instance)
    return Next(release)


@provision.ledger
def release(instance: Instance, facts: Facts) -> Outcome:
    """It stays in the list as failed, with its quota taken, until it is started again or deleted."""
    Blank.objects.all().use_up(instance)
    Instance.objects.all().leave_pool(instance)
    return Failed()
