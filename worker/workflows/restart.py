"""A container ends and begins again, on the same host while that has room. Only forward."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting.compute.models import Instance
from worker import machines
from worker.hypervisor.port import Gone, Hypervisor
from worker.nics import NetworkLost, forget_network
from worker.places import shun, take_place
from worker.workflow import Done, Facts, Next, Outcome, Wait, Workflow

restart = Workflow[Instance](
    "instance.restart",
    subject="instance",
    first="begin",
    no_room="elsewhere",
    deadline=timedelta(minutes=10),
)


@restart.ledger
def begin(instance: Instance, facts: Facts) -> Outcome:
    return Next(end, grace=machines.grace_from_now())


@restart.remote
def end(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    return machines.stop(hypervisor, instance, facts) or Next(place)


@restart.ledger
def place(instance: Instance, facts: Facts) -> Outcome:
    """Where it is, if memory is still reserved for it there."""
    found = take_place(instance, facts)
    return Next(find_vm, **found) if isinstance(found, dict) else found


@restart.remote
def find_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = machines.find_vm(hypervisor, instance)
    if vm is not None:
        return Next(start_vm, vm=vm.uuid)
    return machines.LOST if machines.may_run_unseen(instance, facts) else Next(build_disks)


@restart.remote
def build_disks(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    return Next(build_vm, disks=machines.build_disks(hypervisor, instance, facts))


@restart.remote
def build_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    try:
        vm = machines.build_vm(hypervisor, instance, facts)
    except NetworkLost:
        return Next(join_again)
    return Next(start_vm, vm=vm.uuid)


@restart.remote
def start_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    try:
        vm = hypervisor.vm(UUID(facts["vm"]))
    except Gone:
        if "task" in facts:
            raise  # it was started: another one must not be
        return Next(find_vm)
    return Next(await_running, task=machines.start(hypervisor, vm, UUID(facts["host"])))


@restart.remote
def await_running(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = hypervisor.vm(UUID(facts["vm"]))
    started = machines.has_started(hypervisor, vm, facts["task"])
    if isinstance(started, Wait):
        return started
    return Next(publish if started else start_vm)


@restart.ledger
def publish(instance: Instance, facts: Facts) -> Outcome:
    machines.note_start(instance, facts, generation=instance.container.generation)
    return Done()


@restart.ledger
def join_again(instance: Instance, facts: Facts) -> Outcome:
    """Somebody removed the tenant's network from the pool: it is made anew."""
    forget_network(facts["nic"])
    return Next(place)


@restart.ledger
def elsewhere(instance: Instance, facts: Facts) -> Outcome:
    Instance.objects.all().leave_host(instance)
    return Next(place, tried=shun(facts.get("host"), facts))
