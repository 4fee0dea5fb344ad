"""A running VM moves to another host of its pool, alive.

Memory is held on both hosts while it is not certain where the VM is. Once the move was begun there is no way
back: where the VM is resident says how it went.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting.compute.models import Instance
from worker import machines
from worker.hypervisor.port import Gone, Hypervisor, NoRoom, Refused, TaskHandle
from worker.places import shun, take_target
from worker.workflow import Done, Facts, Failed, Next, Outcome, Spawn, Wait, Workflow

migrate = Workflow[Instance](
    "instance.migrate",
    subject="instance",
    first="reserve",
    undo="give_up",
    no_room="elsewhere",
    deadline=timedelta(minutes=15),
)


@migrate.ledger
def reserve(instance: Instance, facts: Facts) -> Outcome:
    """The target planned for it, if it has still room; else the best that has."""
    if instance.host_id is None:
        return Done()  # it runs nowhere, so there is nothing to move
    target = take_target(instance, facts)
    if isinstance(target, (Wait, Spawn)):
        return target
    return Next(check, host=instance.host_id, target=target)


@migrate.remote
def check(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = machines.find_vm(hypervisor, instance)
    if vm is None or vm.power_state != "Running":
        return Next(put_back)
    hypervisor.assert_can_boot_here(vm.uuid, UUID(facts["target"]))
    return Next(move, vm=vm.uuid)


@migrate.remote(can_turn_back=False)
def move(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Begin to move it, unless it moves already or is not where it was."""
    try:
        vm = hypervisor.vm(UUID(facts["vm"]))
    except Gone:
        return Next(put_back)
    if vm.power_state != "Running" or str(vm.resident_on) != facts["host"]:
        return Next(settle, resident=vm.resident_on)
    task = vm.task_of("pool_migrate")
    try:
        task = task or hypervisor.pool_migrate(vm.uuid, UUID(facts["target"]))
    except (NoRoom, Refused) as no:
        return Next(put_back_for_now, no=no.reason)
    return Next(await_arrival, task=task)


@migrate.remote(can_turn_back=False)
def await_arrival(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    task = TaskHandle(facts["task"])
    try:
        record = hypervisor.poll(task)
    except Gone:
        vm = hypervisor.vm(UUID(facts["vm"]))
        if vm.task_of("pool_migrate") is not None:
            return Wait(machines.SOON, "It moves.")
        return Next(move)  # which looks where it is
    if not record.is_finished:
        return Wait(machines.SOON, "It moves.")
    hypervisor.forget(task)
    vm = hypervisor.vm(UUID(facts["vm"]))
    if vm.power_state == "Running" and str(vm.resident_on) == facts["host"]:
        return Next(put_back_for_now, no=getattr(record.error, "reason", "migration_failed"))
    return Next(settle, resident=vm.resident_on)


@migrate.ledger(can_turn_back=False)
def settle(instance: Instance, facts: Facts) -> Outcome:
    """It is on one of the two hosts, or ended on the way: then the reconciler decides what is next."""
    resident = facts.get("resident")
    known = {facts["host"], facts["target"]}
    Instance.objects.all().settle_on(
        instance, UUID(resident if resident in known else facts["host"])
    )
    return Done()


@migrate.ledger(can_turn_back=False)
def put_back(instance: Instance, facts: Facts) -> Outcome:
    """There is nothing that could be moved."""
    Instance.objects.all().settle_on(instance, UUID(facts["host"]))
    return Done()


@migrate.ledger(can_turn_back=False)
def put_back_for_now(instance: Instance, facts: Facts) -> Outcome:
    """The move failed and it is where it was: another target, after a while."""
    Instance.objects.all().settle_on(instance, UUID(facts["host"]))
    return Next(reserve, tried=shun(facts["target"], facts))


@migrate.ledger
def elsewhere(instance: Instance, facts: Facts) -> Outcome:
    """The target had no room after all."""
    Instance.objects.all().settle_on(instance, UUID(facts["host"]))
    return Next(reserve, tried=shun(facts["target"], facts))


# ------------------------------------------------------------------------------------------- the way back


@migrate.ledger
def give_up(instance: Instance, facts: Facts) -> Outcome:
    """It stays where it is."""
    if "host" in facts:
        Instance.objects.all().settle_on(instance, UUID(facts["host"]))
    return Failed()
