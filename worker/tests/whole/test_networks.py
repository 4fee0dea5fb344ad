"""Containers on their tenant's own network, through the driver and the lab's XAPI."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from deploy.lab.faults import Action
from hosting import labels
from hosting.compute.models import Instance
from hosting.compute.services import delete_container
from hosting.fleet.models import Vif, VirtualMachine
from hosting.networks.models import Segment
from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker.hypervisor.port import NetworkSpec
from worker.reconcile.networks.diff import IDLE
from worker.reconcile.networks.run import reconcile_networks
from worker.reconcile.orphans.run import GRACE, reconcile_orphans
from worker.tests.whole.estate import Estate

pytestmark = pytest.mark.django_db

CHANGES = ("network.create", "pool.create_VLAN_from_PIF", "VIF.create")


@pytest.fixture
def wired(estate: Estate) -> Estate:
    """Its pool carries tenants' networks."""
    call_command("set_network", "lab", device="eth1", vlans="100-199", stdout=StringIO())
    estate.pool.refresh_from_db()
    return estate


def assert_on_its_network(estate: Estate, instance: Instance) -> Segment:
    """It runs once, with one locked interface on the one network of its tenant."""
    now = estate.assert_runs_once(instance)
    segment = Segment.objects.all().living().get(network=now.network, pool=estate.pool)
    ours = [network for network in estate.hypervisor.networks() if labels.SEGMENT in network.marker]
    assert [network.uuid for network in ours] == [segment.network_uuid]
    pifs = [pif for pif in estate.hypervisor.pifs() if pif.network == segment.network_uuid]
    assert {(pif.vlan, pif.currently_attached) for pif in pifs} == {(segment.tag, True)}
    assert {pif.host for pif in pifs} == set(segment.hosts)
    assert now.vm_uuid is not None
    (vif,) = estate.hypervisor.vifs(now.vm_uuid)
    assert (vif.network, vif.mac) == (segment.network_uuid, now.mac)
    assert (vif.locking_mode, vif.ipv4_allowed) == ("locked", (now.ip,))
    return segment


def test_a_container_has_the_address_that_the_ledger_says(wired: Estate) -> None:
    instance = wired.running(wired.imported())
    segment = assert_on_its_network(wired, instance)
    assert (segment.device, segment.tag) == ("eth1", 100)
    mirrored = VirtualMachine.objects.filter(instance_uuid=instance.pk)
    wired.mirror_until(lambda: mirrored.filter(guest_networks__has_key="0/ip").exists())
    vm = mirrored.get()
    assert vm.guest_networks["0/ip"] == Instance.objects.get(pk=instance.pk).ip
    assert Vif.objects.get(vm=vm).mac == Instance.objects.get(pk=instance.pk).mac


def test_the_second_one_joins_the_network_that_is_there(wired: Estate) -> None:
    image = wired.imported()
    first, second = wired.running(image, "one"), wired.running(image, "two")
    assert assert_on_its_network(wired, first) == assert_on_its_network(wired, second)
    assert Operation.objects.filter(kind="network.build").count() == 1


def test_it_moves_with_its_address(wired: Estate) -> None:
    instance = wired.running(wired.imported())
    assert instance.host is not None
    wired.mirror()
    move = Operation.objects.create(kind="host.evacuate", host=instance.host, requested_by="t")
    assert wired.settle(move).state == State.SUCCEEDED
    assert_on_its_network(wired, instance)
    assert Instance.objects.get(pk=instance.pk).host_id != instance.host_id


@pytest.mark.parametrize("action", ["drop_before", "drop_after"])
@pytest.mark.parametrize("call", CHANGES)
def test_a_connection_that_breaks_at_any_change_makes_nothing_twice(
    wired: Estate, call: str, action: Action
) -> None:
    image = wired.imported()
    wired.lab.do(lambda lab: lab.faults.inject(call, action))
    assert_on_its_network(wired, wired.running(image))


def test_the_network_goes_when_nothing_is_left_on_it(wired: Estate) -> None:
    instance = wired.running(wired.imported())
    wired.settle(delete_container(container=instance.container, requested_by="t"))
    Segment.objects.update(created_at=timezone.now() - 2 * IDLE)
    assert reconcile_networks(timezone.now() + 2 * IDLE) == 1
    assert wired.settle(Operation.objects.get(kind="network.remove")).state == State.SUCCEEDED
    assert not [one for one in wired.hypervisor.networks() if one.marker]
    assert not [pif for pif in wired.hypervisor.pifs() if pif.vlan != -1]
    assert not Segment.objects.all().living()


def test_a_network_that_somebody_removed_is_made_again(wired: Estate) -> None:
    image = wired.imported()
    instance = wired.running(image, "one")
    segment = assert_on_its_network(wired, instance)
    wired.settle(delete_container(container=instance.container, requested_by="t"))
    assert segment.network_uuid is not None
    wired.hypervisor.destroy_network(segment.network_uuid)
    assert assert_on_its_network(wired, wired.running(image, "two")) == segment


def test_a_network_that_comes_to_be_after_its_end_is_swept(wired: Estate) -> None:
    """A call that waited its turn in the pool, while its worker was long gone."""
    instance = wired.running(wired.imported())
    segment = assert_on_its_network(wired, instance)
    spec = NetworkSpec(f"double of {segment.pk}", {labels.SEGMENT: str(segment.pk)})
    double = wired.hypervisor.ensure_network(spec)
    wired.mirror()
    now = timezone.now()
    assert [reconcile_orphans(at) for at in (now, now + GRACE)] == [0, 1]
    sweep = wired.pool.operations.get(kind="pool.sweep")
    assert wired.settle(sweep).state == State.SUCCEEDED
    assert double.uuid not in {network.uuid for network in wired.hypervisor.networks()}
    assert_on_its_network(wired, instance)
