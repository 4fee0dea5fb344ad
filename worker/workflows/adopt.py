"""A VM runs where the ledger does not have it: somebody moved or started it by other means.

Where it runs is a fact, so the ledger follows. Nothing is done to the VM.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting.compute.models import Instance
from worker import machines
from worker.hypervisor.port import Hypervisor
from worker.places import request_of
from worker.workflow import Done, Facts, Next, Outcome, Wait, Workflow

LOOK_AGAIN = timedelta(seconds=30)

adopt = Workflow[Instance](
    "instance.adopt", subject="instance", first="find", deadline=timedelta(minutes=10)
)


@adopt.remote
def find(instance: Instance, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = machines.find_vm(hypervisor, instance)
    if vm is None or vm.power_state != "Running" or vm.resident_on is None:
        return Done()  # it runs no more, which is another matter
    return Next(settle, resident=vm.resident_on)


@adopt.ledger
def settle(instance: Instance, facts: Facts) -> Outcome:
    resident, need = UUID(facts["resident"]), request_of(instance).memory_bytes
    if Instance.objects.all().find_on(instance, resident, need):
        return Done()
    seen = Instance.objects.all().with_facts().get(pk=instance.pk)
    if seen.resident_on_id not in (None, resident):
        return Next(find)  # it has moved on
    return Wait(LOOK_AGAIN, "The host that it runs on has no room for it by our count.")
