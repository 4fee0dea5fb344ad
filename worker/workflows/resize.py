"""A container gets another size: its VM is stopped and made anew, on the disks that it has.

XAPI changes static memory and VCPUs_max of halted VMs only (XAPI.md 4.1), and a VM's record is cheap. Until it
is stopped it may be called off; then it goes only forward.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting.compute.choices import DesiredState
from hosting.compute.models import Instance
from hosting.compute.services import forget_resize, settle_sizes
from worker import machines
from worker.hypervisor.port import Gone, Hypervisor, NoRoom
from worker.nics import NetworkLost, forget_network
from worker.places import shun, take_place
from worker.workflow import Done, Facts, Failed, Next, Outcome, Wait, Workflow

resize = Workflow[Instance](
    "instance.resize",
    subject="instance",
    first="check",
    undo="give_up",
    deadline=timedelta(minutes=10),
)


@resize.remote
def check(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Its pool answers; nothing has been touched yet."""
    vm = machines.find_vm(hypervisor, instance)
    lost = vm is None and machines.may_run_unseen(instance, facts)
    return machines.LOST if lost else Next(begin)


@resize.ledger
def begin(instance: Instance, facts: Facts) -> Outcome:
    return Next(end, grace=machines.grace_from_now())


@resize.remote(can_turn_back=False)
def end(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    return machines.stop(hypervisor, instance, facts) or Next(unmake_vm)


@resize.remote(can_turn_back=False)
def unmake_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    machines.unmake_vm(hypervisor, instance)
    return Next(settle)


@resize.ledger(can_turn_back=False)
def settle(instance: Instance, facts: Facts) -> Outcome:
    """Nothing of the old size is left: the ledger says the new one. What is stopped stays so."""
    Instance.objects.all().leave_host(instance)
    settle_sizes(instance)
    wants_to_run = instance.container.desired_state == DesiredState.RUNNING
    return Next(place) if wants_to_run else Done()


@resize.ledger(can_turn_back=False)
def place(instance: Instance, facts: Facts) -> Outcome:
    found = take_place(instance, facts)
    return Next(build_disks, **found) if isinstance(found, dict) else found


@resize.remote(can_turn_back=False)
def build_disks(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """They are there; this finds them."""
    return Next(build_vm, disks=machines.build_disks(hypervisor, instance, facts))


@resize.remote(can_turn_back=False)
def build_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    try:
        vm = machines.build_vm(hypervisor, instance, facts)
    except NetworkLost:
        return Next(join_again)
    return Next(start_vm, vm=vm.uuid)


@resize.remote(can_turn_back=False)
def start_vm(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    try:
        vm = hypervisor.vm(UUID(facts["vm"]))
    except Gone:
        if "task" in facts:
            raise  # it was started: another one must not be
        return Next(build_vm)
    return Next(await_running, task=machines.start(hypervisor, vm, UUID(facts["host"])))


@resize.remote(can_turn_back=False)
def await_running(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = hypervisor.vm(UUID(facts["vm"]))
    try:
        started = machines.has_started(hypervisor, vm, facts["task"])
    except NoRoom as full:
        return Next(elsewhere, full=full.reason)
    if isinstance(started, Wait):
        return started
    return Next(publish if started else start_vm)


@resize.ledger(can_turn_back=False)
def publish(instance: Instance, facts: Facts) -> Outcome:
    machines.note_start(instance, facts)
    return Done()


@resize.ledger(can_turn_back=False)
def join_again(instance: Instance, facts: Facts) -> Outcome:
    """Somebody removed the tenant's network from the pool: it is made anew."""
    forget_network(facts["nic"])
    return Next(place)


@resize.ledger(can_turn_back=False)
def elsewhere(instance: Instance, facts: Facts) -> Outcome:
    Instance.objects.all().leave_host(instance)
    return Next(place, tried=shun(facts.get("host"), facts))


# ------------------------------------------------------------------------------------------- the way back


@resize.ledger
def give_up(instance: Instance, facts: Facts) -> Outcome:
    """Nothing was done: the wish is again what is true."""
    forget_resize(instance)
    return Failed()
