"""Warm starts, through the driver and the lab's XAPI."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pytest
from django.core.management import call_command

from deploy.lab.faults import Action
from hosting.compute.services import delete_container
from hosting.fleet.models import VirtualMachine
from hosting.operations.choices import State
from hosting.operations.models import Operation
from hosting.warm.choices import BlankState
from hosting.warm.models import Blank
from worker.reconcile.blanks.run import reconcile_blanks
from worker.tests.whole.estate import Estate

pytestmark = pytest.mark.django_db

KERNEL = "/boot/guest/vmlinuz"
CHANGES = ("VM.set_name_label", "VM.unpause", "VBD.plug", "VIF.move")


@pytest.fixture
def warm(estate: Estate) -> Estate:
    """Its pool boots directly, carries networks, and keeps a blank on each of its three hosts."""
    call_command("set_boot", "lab", "pvh", kernel=KERNEL, stdout=StringIO())
    call_command("set_network", "lab", device="eth1", vlans="300-399", stdout=StringIO())
    want_blanks(1)
    keep(estate)
    return estate


def want_blanks(count: int) -> None:
    """Of the size of the estate's containers."""
    size = {"memory": "128MiB", "disk": "64MiB"}
    call_command("set_warm", "lab", **size, count=count, stdout=StringIO())


def keep(estate: Estate) -> None:
    """Each host has as many as it should."""
    estate.mirror()
    reconcile_blanks()
    for operation in Operation.objects.active().filter(blank__isnull=False):
        estate.settle(operation)
    estate.mirror()


def unwarm(estate: Estate) -> None:
    """The lab is other tests' too."""
    want_blanks(0)
    while Blank.objects.all().living().exists():
        keep(estate)


def ready() -> set[str]:
    blanks = Blank.objects.filter(state=BlankState.READY)
    return set(map(str, blanks.values_list("vm_uuid", flat=True)))


def test_a_container_starts_in_a_vm_that_had_booted_and_another_takes_its_place(
    warm: Estate,
) -> None:
    assert Counter(warm.vms().values()) == {"Paused": 3}
    before = ready()
    instance = warm.assert_runs_once(warm.running(warm.imported()))
    assert str(instance.vm_uuid) in before
    assert instance.vm_uuid is not None
    (vif,) = warm.hypervisor.vifs(instance.vm_uuid)
    assert (vif.currently_attached, vif.locking_mode) == (True, "locked")
    assert all(vbd.currently_attached for vbd in warm.hypervisor.vbds(instance.vm_uuid))
    keep(warm)
    assert Counter(warm.vms().values()) == {"Paused": 3, "Running": 1}
    assert VirtualMachine.objects.get(instance_uuid=instance.pk).blank_uuid is None
    gone = delete_container(container=instance.container, requested_by="t")
    assert warm.settle(gone).state == State.SUCCEEDED
    unwarm(warm)
    assert not warm.vms()
    assert not warm.disks()


@pytest.mark.parametrize("call", ["VDI.set_name_label", *CHANGES])
@pytest.mark.parametrize("action", ["drop_before", "drop_after"])
def test_whatever_call_is_lost_it_runs_once(warm: Estate, call: str, action: Action) -> None:
    image = warm.imported()
    warm.lab.do(lambda lab: lab.faults.inject(call, action))
    instance = warm.assert_runs_once(warm.running(image))
    warm.lab.do(lambda lab: lab.faults.clear())
    assert Blank.objects.get(instance=instance).vm_uuid == instance.vm_uuid
    warm.settle(delete_container(container=instance.container, requested_by="t"))
    unwarm(warm)


@pytest.mark.parametrize("call", CHANGES)
def test_whatever_call_is_refused_it_starts_all_the_same(warm: Estate, call: str) -> None:
    image = warm.imported()
    no = ("OPERATION_NOT_ALLOWED", "for a test")
    warm.lab.do(lambda lab: lab.faults.inject(call, "error", error=no))
    instance = warm.assert_runs_once(warm.running(image))
    warm.lab.do(lambda lab: lab.faults.clear())
    blank = Blank.objects.get(instance=instance)
    assert blank.vm_uuid != instance.vm_uuid
    warm.settle(delete_container(container=instance.container, requested_by="t"))
    unwarm(warm)
