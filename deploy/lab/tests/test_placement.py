"""Where VMs start: the checks of a host, and the choice among hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.samples import GIB, MIB
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture(scope="module")
def _lab() -> Iterator[Vms]:
    with (
        running_lab(hosts=2, tls=False, rate=20.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


@pytest.fixture
def vms(_lab: Vms) -> Iterator[Vms]:
    yield _lab
    _lab.clear()


def test_overhead_is_what_was_recorded(vms: Vms) -> None:
    sizes = (256 * MIB, 1 * GIB, 2 * GIB, 40 * GIB, 100 * GIB)
    overheads = [int(vms.api.VM.get_memory_overhead(vms.vm(memory=size))) for size in sizes]
    assert overheads == [5 * MIB, 11 * MIB, 19 * MIB, 323 * MIB, 803 * MIB]


def test_a_fresh_host_has_the_recorded_free_memory(vms: Vms) -> None:
    assert vms.api.host.compute_free_memory(vms.hosts["h1"]) == "65870495744"


def test_a_vm_larger_than_a_host_fits_nowhere(vms: Vms) -> None:
    vm = vms.vm(memory=100 * GIB)
    full = ["HOST_NOT_ENOUGH_FREE_MEMORY", "108216188928", "65870495744"]
    assert error_of(vms.api.VM.start, vm, False, False) == ["NO_HOSTS_AVAILABLE"]
    assert error_of(vms.api.VM.start_on, vm, vms.hosts["h1"], False, False) == full
    assert error_of(vms.api.VM.assert_can_boot_here, vm, vms.hosts["h2"]) == full
    assert vms.api.VM.get_possible_hosts(vm) == []


def test_a_vm_with_more_vcpus_than_a_host_fits_nowhere(vms: Vms) -> None:
    vm = vms.vm(vcpus=17)
    answer = error_of(vms.api.VM.start_on, vm, vms.hosts["h1"], False, False)
    assert answer == ["HOST_NOT_ENOUGH_PCPUS", "17", "16"]
    assert error_of(vms.api.VM.start, vm, False, False) == ["NO_HOSTS_AVAILABLE"]


def test_vms_fill_one_host_after_the_other(vms: Vms) -> None:
    first, second, third = (vms.vm(memory=40 * GIB) for _ in range(3))
    vms.api.VM.start(first, False, False)
    vms.api.VM.start(second, False, False)
    assert {vms.where(first), vms.where(second)} == {"h1", "h2"}
    assert error_of(vms.api.VM.start, third, False, False) == ["NO_HOSTS_AVAILABLE"]
    assert vms.api.host.compute_free_memory(vms.hosts["h2"]) == "22582132736"


def test_affinity_is_obeyed_while_the_host_is_possible(vms: Vms) -> None:
    vm = vms.vm()
    for wanted in ("h1", "h2", "h1"):
        vms.api.VM.set_affinity(vm, vms.hosts[wanted])
        vms.api.VM.start(vm, False, False)
        assert vms.where(vm) == wanted
        vms.api.VM.hard_shutdown(vm)


def test_affinity_to_a_disabled_host_is_passed_over(vms: Vms) -> None:
    vm = vms.vm(affinity=vms.hosts["h2"])
    vms.api.host.disable(vms.hosts["h2"])
    vms.api.VM.start(vm, False, False)
    assert vms.where(vm) == "h1"


def test_a_disabled_host_takes_no_vm(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.host.disable(vms.hosts["h2"])
    refused = error_of(vms.api.VM.start_on, vm, vms.hosts["h2"], False, False)
    assert refused == ["HOST_DISABLED", vms.hosts["h2"]]
    assert vms.api.VM.get_possible_hosts(vm) == [vms.hosts["h1"]]


def test_with_every_host_disabled_nothing_starts(vms: Vms) -> None:
    vm = vms.vm()
    for host in vms.hosts.values():
        vms.api.host.disable(host)
    assert error_of(vms.api.VM.start, vm, False, False) == ["NO_HOSTS_AVAILABLE"]
    assert vms.api.VM.get_possible_hosts(vm) == []


def test_a_local_disk_ties_a_vm_to_its_host(vms: Vms) -> None:
    storage = vms.local_storage("h1")
    vm = vms.vm()
    vms.give_disk(vm, vms.disk(storage))
    answer = error_of(vms.api.VM.start_on, vm, vms.hosts["h2"], False, False)
    assert answer == ["VM_REQUIRES_SR", vm, storage]
    vms.api.VM.start(vm, False, False)
    assert vms.where(vm) == "h1"


def test_a_network_without_interfaces_is_where_its_first_vm_is(vms: Vms) -> None:
    network = vms.api.network.create(
        {"name_label": "inside", "name_description": "", "other_config": {}}
    )
    first, second = vms.vm(), vms.vm()
    for vm in (first, second):
        vms.give_interface(vm, network)
    assert set(vms.api.VM.get_possible_hosts(second)) == set(vms.hosts.values())
    vms.api.VM.start_on(first, vms.hosts["h2"], False, False)
    assert vms.api.VM.get_possible_hosts(second) == [vms.hosts["h2"]]
    answer = error_of(vms.api.VM.start_on, second, vms.hosts["h1"], False, False)
    assert answer == ["VM_REQUIRES_NETWORK", second, network]


def test_a_host_that_does_not_exist_is_not_live(vms: Vms) -> None:
    missing = "OpaqueRef:00000000-1111-2222-3333-444444444444"
    vm = vms.vm()
    assert error_of(vms.api.VM.assert_can_boot_here, vm, missing) == ["HOST_NOT_LIVE"]
    answer = error_of(vms.api.VM.start_on, vm, missing, False, False)
    assert answer == ["HANDLE_INVALID", "host", missing]


def test_a_starting_vm_takes_its_memory_at_once(vms: Vms) -> None:
    vms.lab.clock.set_rate(0)
    try:
        first, second = vms.vm(memory=40 * GIB), vms.vm(memory=40 * GIB)
        vms.session.xenapi_request("Async.VM.start_on", (first, vms.hosts["h2"], False, False))
        answer = error_of(vms.api.VM.start_on, second, vms.hosts["h2"], False, False)
        assert answer == ["HOST_NOT_ENOUGH_FREE_MEMORY", "43288363008", "22582132736"]
        assert vms.api.VM.get_scheduled_to_be_resident_on(first) == vms.hosts["h2"]
    finally:
        vms.lab.clock.set_rate(20)
        _settle(vms, first)


def _settle(vms: Vms, vm: str) -> None:
    vms.lab.clock.advance(5)
    assert vms.api.VM.get_current_operations(vm) == {}
