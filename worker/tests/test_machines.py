"""What is done to a VM, beside what every workflow shows."""

from __future__ import annotations

import pytest

from hosting.fleet.models import Pool
from hosting.operations.choices import State, Trouble
from hosting.operations.models import Operation
from worker import engine, machines
from worker.hypervisor.port import BootDirect, BootHvm
from worker.tests.support import let_time_pass, to
from worker.tests.worlds import World
from worker.workflow import Wait

pytestmark = pytest.mark.django_db


def test_what_is_being_started_is_not_taken_for_stopped() -> None:
    world = World()
    instance = world.add_instance(world.hosts[0])
    assert instance.vm_uuid is not None
    world.pool.end(instance.vm_uuid)
    world.pool.start_on(instance.vm_uuid, world.hosts[0].pk)
    facts = {"grace": machines.grace_from_now()}
    assert isinstance(machines.stop(world.pool, instance, facts), Wait)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["instance.start", "instance.restart", "instance.stop"])
def test_nothing_is_done_about_a_vm_that_may_run_unseen(kind: str) -> None:
    world = World()
    instance = world.add_instance(world.hosts[0])
    assert instance.vm_uuid is not None
    world.pool.vms_by_uuid.pop(instance.vm_uuid)  # its domain is still there
    operation = Operation.objects.create(kind=kind, instance=instance, requested_by="t")
    for _ in range(5):
        let_time_pass()
        engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert operation.state == State.ACTIVE
    assert "a person must look" in operation.detail
    assert world.again(instance).host == world.hosts[0]
    assert not world.pool.vms_by_uuid


def test_one_that_was_started_is_not_made_again_when_it_vanishes() -> None:
    world = World()
    instance = world.add_instance()
    operation = Operation.objects.create(
        kind="instance.provision", instance=instance, requested_by="t"
    )
    while operation.step != "await_running":
        let_time_pass()
        claimed = engine.claim(operation.uuid)
        assert claimed is not None
        engine.run_step(claimed, to(world.pool), keep=False)
        operation.refresh_from_db()
    Operation.objects.update(step="start_again")
    world.pool.vms_by_uuid.clear()
    let_time_pass()
    engine.advance(operation.uuid, to(world.pool))
    operation.refresh_from_db()
    assert (operation.step, operation.trouble) == ("start_again", Trouble.GONE)
    assert not world.pool.vms_by_uuid


@pytest.mark.parametrize(
    ("pool", "boot"),
    [
        (Pool(), BootHvm("bios")),
        (Pool(boot_mode="uefi"), BootHvm("uefi")),
        (
            Pool(boot_mode="pvh", boot_kernel="/k", boot_ramdisk="/r", boot_args="quiet"),
            BootDirect("/k", "/r", "quiet", "pvh"),
        ),
        (Pool(boot_mode="pv", boot_kernel="/k"), BootDirect("/k", kind="pv")),
    ],
)
def test_a_vm_boots_as_the_operators_of_its_pool_said(
    pool: Pool, boot: BootHvm | BootDirect
) -> None:
    assert machines.boot_of(pool) == boot
