"""A container that has run before runs again: placed anew, and what is missing of it made anew.

A refusal leaves it stopped, with its disks.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting.compute.models import Instance
from worker import machines
from worker.hypervisor.port import Gone, Hypervisor
from worker.nics import NetworkLost, forget_network
from worker.places import shun, take_place
from worker.workflow import Done, Facts, Failed, Next, Outcome, Wait, Workflow

start = Workflow[Instance](
    "instance.start",
    subject="instance",
    first="place",
    undo="begin_to_end",
    no_room="elsewhere",
    deadline=timedelta(minutes=10),
)


@start.ledger
def place(instance: Instance, facts: Facts) -> Outcome:
    found = take_place(instance, facts)
    return Next(find_vm, **found) if isinstance(found, dict) else found


@start.remote
def find_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = machines.find_vm(hypervisor, instance)
    if vm is not None:
        return Next(start_vm, vm=vm.uuid)
    return machines.LOST if machines.may_run_unseen(instance, facts) else Next(build_disks)


@start.remote
def build_disks(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """The pool has lost its VM; disks that are there are kept."""
    return Next(build_vm, disks=machines.build_disks(hypervisor, instance, facts))


@start.remote
def build_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    try:
        vm = machines.build_vm(hypervisor, instance, facts)
    except NetworkLost:
        return Next(join_again)
    return Next(start_vm, vm=vm.uuid)


@start.remote
def start_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    try:
        vm = hypervisor.vm(UUID(facts["vm"]))
    except Gone:
        if "task" in facts:
            raise  # it was started: another one must not be
        return Next(find_vm)
    return Next(await_running, task=machines.start(hypervisor, vm, UUID(facts["host"])))


@start.remote
def await_running(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = hypervisor.vm(UUID(facts["vm"]))
    started = machines.has_started(hypervisor, vm, facts["task"])
    if isinstance(started, Wait):
        return started
    return Next(publish if started else start_vm)


@start.ledger(can_turn_back=False)
def publish(instance: Instance, facts: Facts) -> Outcome:
    machines.note_start(instance, facts, generation=instance.container.generation)
    return Done()


@start.ledger
def join_again(instance: Instance, facts: Facts) -> Outcome:
    """Somebody removed the tenant's network from the pool: it is made anew."""
    forget_network(facts["nic"])
    return Next(place)


@start.ledger
def elsewhere(instance: Instance, facts: Facts) -> Outcome:
    Instance.objects.all().leave_host(instance)
    return Next(place, tried=shun(facts.get("host"), facts))


# ------------------------------------------------------------------------------------------- the way back


@start.ledger
def begin_to_end(instance: Instance, facts: Facts) -> Outcome:
    if instance.pool_id is None:
        return Next(release)
    return Next(end, grace=machines.grace_from_now())


@start.remote
def end(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """It may have been started all the same."""
    return machines.stop(hypervisor, instance, facts) or Next(release)


@start.ledger
def release(instance: Instance, facts: Facts) -> Outcome:
    Instance.objects.all().leave_host(instance)
    return Failed()
