"""Workers that die and replies that get lost between us and a pool: one VM comes of it, or none."""

from __future__ import annotations

import pytest
from django.utils import timezone

from deploy.lab.faults import Action
from hosting.compute.models import Container
from hosting.compute.services import delete_container
from hosting.fleet.models import VirtualMachine
from hosting.operations.choices import State
from worker.hypervisor.port import VdiSpec, VmSpec
from worker.machines import marker_of, name_of
from worker.reconcile.orphans.run import GRACE, reconcile_orphans
from worker.tests.support import killed_before_committing
from worker.tests.whole.estate import Estate

pytestmark = pytest.mark.django_db

# What a container's coming to life asks of a pool that changes something in it.
CHANGES = (
    "VDI.clone",
    "VDI.set_name_label",
    "VDI.set_other_config",
    "VDI.add_to_other_config",
    "VDI.create",
    "PUT /import_raw_vdi",
    "VM.create",
    "VBD.create",
    "Async.VM.start_on",
)
STEPS = ("place", "build_disks", "build_vm", "await_running", "publish")


@pytest.mark.parametrize("action", ["drop_before", "drop_after"])
@pytest.mark.parametrize("call", CHANGES)
def test_a_connection_that_breaks_at_any_change_makes_nothing_twice(
    estate: Estate, call: str, action: Action
) -> None:
    image = estate.imported()
    estate.lab.do(lambda lab: lab.faults.inject(call, action))
    instance = estate.running(image)
    estate.assert_runs_once(instance)
    assert len(estate.vms()) == 1
    assert len(estate.disks()) == 3


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_dies_before_any_commit_leaves_nothing_when_it_is_deleted(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    image = estate.imported()
    container, operation = estate.container(image)
    with killed_before_committing(step, monkeypatch) as killed, pytest.raises(SystemExit):
        estate.settle(operation)
    assert killed == [step]
    estate.settle(delete_container(container=container, requested_by="t"))
    assert not Container.objects.filter(deleted_at=None)
    estate.assert_nothing_is_left()


def test_a_vm_that_comes_to_be_after_its_end_is_swept(estate: Estate) -> None:
    """A call that waited its turn in the pool, while its worker was long gone."""
    image = estate.imported()
    container, _ = estate.container(image)
    instance = estate.instance_of(container)
    estate.settle(delete_container(container=container, requested_by="t"))
    late = VmSpec(name_of(instance), marker_of(instance), memory_bytes=2**27, vcpus=1)
    pool = estate.hypervisor
    pool.ensure_vm(late)
    sr = pool.pool().default_sr
    assert sr is not None
    pool.ensure_vdi(VdiSpec(f"{name_of(instance)}-root", marker_of(instance), sr, 2**21))
    estate.mirror()
    assert VirtualMachine.objects.filter(instance_uuid=instance.pk).exists()
    now = timezone.now()
    assert [reconcile_orphans(at) for at in (now, now + GRACE)] == [0, 1]
    sweep = estate.pool.operations.get(kind="pool.sweep")
    assert estate.settle(sweep).state == State.SUCCEEDED
    estate.assert_nothing_is_left()
