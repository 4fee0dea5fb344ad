"""A tenant's network is on every host, once, and goes without leaving anything."""

import pytest

from worker.hypervisor.port import NetworkSpec, NoRoom, PifRecord, Refused, VifSpec
from worker.tests.contract.conftest import SOON, Place, Workshop, is_gone

pytestmark = pytest.mark.usefixtures("destructive")  # tags and interfaces are the whole pool's


def tag_of(workshop: Workshop) -> int:
    return 3000 + workshop.instance.int % 900


def physical(place: Place) -> PifRecord:
    return next(p for p in place.hypervisor.pifs() if p.physical and p.vlan == -1)


def test_a_network_is_found_and_not_made_again(place: Place, workshop: Workshop) -> None:
    spec = NetworkSpec(workshop.name("net"), workshop.marker)
    made = place.hypervisor.ensure_network(spec)
    assert made.marker == workshop.marker
    assert place.hypervisor.ensure_network(spec) == made


def test_a_vlan_is_on_every_host_once(place: Place, workshop: Workshop) -> None:
    network = place.hypervisor.ensure_network(NetworkSpec(workshop.name("net"), workshop.marker))
    device, tag = physical(place).device, tag_of(workshop)
    for _ in range(2):
        pifs = place.hypervisor.ensure_vlan(network.uuid, device=device, tag=tag)
        hosts = sorted(str(host.uuid) for host in place.hypervisor.hosts())
        assert sorted(str(pif.host) for pif in pifs) == hosts
        assert {pif.vlan for pif in pifs} == {tag}


def test_a_host_that_lacks_the_vlan_gets_it(place: Place, workshop: Workshop) -> None:
    network = place.hypervisor.ensure_network(NetworkSpec(workshop.name("net"), workshop.marker))
    device, tag = physical(place).device, tag_of(workshop)
    pifs = place.hypervisor.ensure_vlan(network.uuid, device=device, tag=tag)
    if place.lab is None:
        pytest.skip("only a lab is taken apart")
    victim = str(pifs[0].uuid)

    def forget(lab: object) -> None:
        db = lab.db  # type: ignore[attr-defined]
        vlan = db.get("VLAN", db.by_uuid("PIF", victim).VLAN_master_of)
        db.delete(vlan)
        db.delete(db.by_uuid("PIF", victim))

    place.lab.do(forget)
    again = place.hypervisor.ensure_vlan(network.uuid, device=device, tag=tag)
    assert {pif.host for pif in again} == {pif.host for pif in pifs}


def test_another_tag_on_the_same_network_is_a_conflict(place: Place, workshop: Workshop) -> None:
    network = place.hypervisor.ensure_network(NetworkSpec(workshop.name("net"), workshop.marker))
    device, tag = physical(place).device, tag_of(workshop)
    place.hypervisor.ensure_vlan(network.uuid, device=device, tag=tag)
    with pytest.raises(Refused) as error:
        place.hypervisor.ensure_vlan(network.uuid, device=device, tag=tag + 1)
    assert error.value.reason == "conflict"


def test_a_device_that_no_host_has_is_no_room(place: Place, workshop: Workshop) -> None:
    network = place.hypervisor.ensure_network(NetworkSpec(workshop.name("net"), workshop.marker))
    with pytest.raises(NoRoom):
        place.hypervisor.ensure_vlan(network.uuid, device="eth99", tag=7)


def test_a_network_goes_with_its_vlans(place: Place, workshop: Workshop) -> None:
    network = place.hypervisor.ensure_network(NetworkSpec(workshop.name("net"), workshop.marker))
    before = len(place.hypervisor.pifs())
    place.hypervisor.ensure_vlan(network.uuid, device=physical(place).device, tag=tag_of(workshop))
    for _ in range(2):
        place.hypervisor.destroy_network(network.uuid)
    assert network.uuid not in {n.uuid for n in place.hypervisor.networks()}
    assert len(place.hypervisor.pifs()) == before


def test_a_network_that_a_running_vm_is_on_stays(place: Place, workshop: Workshop) -> None:
    hypervisor = place.hypervisor
    network = hypervisor.ensure_network(NetworkSpec(workshop.name("net"), workshop.marker))
    vm = workshop.vm()
    hypervisor.ensure_vif(VifSpec(vm.uuid, network.uuid, 0, "02:00:5e:00:53:11"))
    hypervisor.wait(hypervisor.start_on(vm.uuid, place.master()), SOON)
    with pytest.raises(Refused) as error:
        hypervisor.destroy_network(network.uuid)
    assert error.value.reason == "network_in_use"
    hypervisor.destroy_vm(vm.uuid)
    hypervisor.destroy_network(network.uuid)
    assert is_gone(lambda uuid: hypervisor.ensure_vlan(uuid, device="eth0", tag=1), network.uuid)
