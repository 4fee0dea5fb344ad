"""Hosts, metrics, messages and consoles, as the pool shows them."""

from datetime import UTC, datetime, timedelta

from deploy.lab.testing import RunningLab
from worker.tests.contract.conftest import SOON, Place, Workshop


def test_a_host_shows_what_placement_needs(place: Place) -> None:
    host = place.hypervisor.host(place.master())
    assert host.live
    assert host.cpu_count >= 1
    assert 0 < host.memory_free_bytes < host.memory_total_bytes
    assert host.api_version >= (2, 0)
    assert "product_version" in host.software_version
    assert host in place.hypervisor.hosts()


def test_the_pool_names_its_master(place: Place) -> None:
    pool = place.hypervisor.pool()
    assert pool.master in {host.uuid for host in place.hypervisor.hosts()}


def test_resident_vms_are_counted_without_the_control_domain(
    place: Place, workshop: Workshop
) -> None:
    (host,) = place.slaves(1)
    before = place.hypervisor.host(host).resident_vm_count
    workshop.running(host)
    assert place.hypervisor.host(host).resident_vm_count == before + 1


def test_the_hosts_clock_can_be_read(place: Place) -> None:
    assert place.hypervisor.server_time(place.master()).tzinfo is UTC


def test_a_start_leaves_a_message_that_can_be_removed(place: Place, workshop: Workshop) -> None:
    since = place.hypervisor.server_time(place.master()) - timedelta(seconds=1)
    vm = workshop.running(place.master())
    about = [m for m in place.hypervisor.messages(since) if m.about == vm.uuid]
    assert [m.name for m in about] == ["VM_STARTED"]
    place.hypervisor.destroy_messages([m.uuid for m in about])
    place.hypervisor.destroy_messages([m.uuid for m in about])
    assert vm.uuid not in {m.about for m in place.hypervisor.messages(since)}


def test_a_running_vm_has_a_text_console(place: Place, workshop: Workshop, lab: RunningLab) -> None:
    (host,) = place.slaves(1)
    vm = workshop.running(host)
    console = next(c for c in place.hypervisor.consoles(vm.uuid) if c.protocol == "vt100")
    stream = place.hypervisor.open_console(console, SOON)
    try:
        assert stream.recv(4096) != b""
        assert stream.send_nowait(b"\n") == 1
    finally:
        stream.close()


def test_a_hosts_metrics_name_the_host_and_its_vms(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    host = place.master()
    vm = workshop.running(host)
    lab.clock.advance(60)
    now = place.hypervisor.server_time(host)
    found = place.hypervisor.metrics(
        host, since=now - timedelta(seconds=60), interval=timedelta(seconds=5)
    )
    assert {sample.uuid for sample in found if sample.kind == "host"} == {host}
    assert "cpu0" in {sample.name for sample in found if sample.uuid == vm.uuid}
    assert all(sample.at > datetime(2000, 1, 1, tzinfo=UTC) for sample in found)


def test_a_halted_vm_has_no_console(place: Place, workshop: Workshop) -> None:
    assert place.hypervisor.consoles(workshop.vm().uuid) == ()
