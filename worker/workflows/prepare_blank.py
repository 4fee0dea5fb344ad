"""A VM boots before anybody asked for it, and is paused for whoever asks first.

It holds its host's memory from the first step on. A refusal, or a guest that never says that it waits, undoes all of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone

from hosting.warm.models import Blank
from worker import blanks, machines
from worker.hypervisor.port import Hypervisor
from worker.placement import overhead_bytes
from worker.workflow import Done, Facts, Failed, Next, Outcome, Wait, Workflow

# Of a guest that boots: one that knows nothing of being blank never says so.
PATIENCE = timedelta(minutes=2)

prepare_blank = Workflow[Blank](
    "blank.prepare",
    subject="blank",
    first="reserve",
    undo="unmake_vm",
    no_room="unmake_vm",
    deadline=timedelta(minutes=10),
)


@prepare_blank.ledger
def reserve(blank: Blank, facts: Facts) -> Outcome:
    overhead = overhead_bytes(vcpus=blank.vcpus, memory_bytes=blank.memory_bytes)
    if Blank.objects.all().reserve(blank, blank.memory_bytes + overhead):
        return Next(build_vm)
    Blank.objects.all().end(blank)
    return Failed("no_room", "Its host has no room for it now, or takes nothing new.")


@prepare_blank.remote
def build_vm(blank: Blank, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    disk = blanks.build_disk(hypervisor, blank)
    vm = blanks.build_vm(hypervisor, blank, disk)
    task = None if vm.power_state == "Paused" else machines.start(hypervisor, vm, blank.host_id)
    until = (timezone.now() + PATIENCE).isoformat()
    return Next(await_start, vm=vm.uuid, disk=disk, task=task, until=until)


@prepare_blank.remote
def await_start(blank: Blank, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vm = hypervisor.vm(UUID(facts["vm"]))
    if vm.power_state == "Paused":
        return Next(note_ready)
    started = machines.has_started(hypervisor, vm, facts["task"])
    if isinstance(started, Wait):
        return started
    return Next(await_guest if started else build_vm)


@prepare_blank.remote
def await_guest(blank: Blank, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """… and have it stand still as soon as it says that it waits."""
    vm = hypervisor.vm(UUID(facts["vm"]))
    if vm.power_state == "Paused":
        return Next(note_ready)
    if vm.power_state != "Running":
        return Next(unmake_vm, why="Its guest ended.")
    if blanks.waits(vm):
        hypervisor.pause(vm.uuid)
        return Next(note_ready)
    if timezone.now() > datetime.fromisoformat(facts["until"]):
        return Next(unmake_vm, why="Its guest never said that it waits.")
    return Wait(machines.SOON, "The guest boots.")


@prepare_blank.ledger
def note_ready(blank: Blank, facts: Facts) -> Outcome:
    """Unless it was retired meanwhile."""
    if Blank.objects.all().note_ready(blank, UUID(facts["vm"]), UUID(facts["disk"])):
        return Done()
    return Next(unmake_vm, why="It is wanted no more.")


# ------------------------------------------------------------------------------------------- the way back


@prepare_blank.remote
def unmake_vm(blank: Blank, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    blanks.unmake(hypervisor, blank)
    return Next(release)


@prepare_blank.ledger
def release(blank: Blank, facts: Facts) -> Outcome:
    Blank.objects.all().end(blank)
    return Failed("not_ready", facts.get("why", "It could not be made."))
