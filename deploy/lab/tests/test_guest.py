"""The guest model: what guests report, and how they end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.guest import CONSOLE_BYTES, Console
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture
def vms() -> Iterator[Vms]:
    with (
        running_lab(hosts=2, tls=False, rate=0.0, guest_boot_seconds=5.0) as lab,
        vms_of(lab) as vms,
    ):
        lab.clock.set_rate(100.0)
        yield vms


def _start(vms: Vms, guest: str, **fields: object) -> str:
    """Start a VM and stop the clock."""
    vm = vms.started("h2", guest=guest, **fields)
    vms.lab.clock.set_rate(0)
    return vm


def _drivers(vms: Vms, vm: str) -> bool:
    metrics = vms.api.VM.get_guest_metrics(vm)
    return bool(vms.api.VM_guest_metrics.get_PV_drivers_detected(metrics))


def test_a_guest_reports_once_it_has_booted(vms: Vms) -> None:
    vm = _start(vms, "boot=30")
    vms.lab.clock.advance(20)
    assert not _drivers(vms, vm)
    vms.lab.clock.advance(20)
    assert _drivers(vms, vm)


def test_a_guest_without_drivers_reports_nothing(vms: Vms) -> None:
    vm = _start(vms, "no-drivers")
    vms.lab.clock.advance(60)
    assert not _drivers(vms, vm)


def test_a_guest_reports_the_addresses_it_is_locked_to(vms: Vms) -> None:
    vm = vms.vm()
    network = vms.api.network.get_all()[0]
    vif = vms.give_interface(vm, network)
    vms.api.VIF.set_ipv4_allowed(vif, ["10.1.2.3"])
    vms.api.VM.start(vm, False, False)
    vms.lab.clock.set_rate(0)
    vms.lab.clock.advance(10)
    networks = vms.api.VM_guest_metrics.get_networks(vms.api.VM.get_guest_metrics(vm))
    assert networks == {"0/ip": "10.1.2.3", "0/ipv4/0": "10.1.2.3"}


def test_a_paused_guest_does_not_boot(vms: Vms) -> None:
    vm = vms.vm(guest="boot=5")
    vms.api.VM.start(vm, True, False)
    vms.lab.clock.set_rate(0)
    vms.lab.clock.advance(60)
    assert not _drivers(vms, vm)
    vms.lab.clock.set_rate(100)
    vms.api.VM.unpause(vm)
    vms.lab.clock.set_rate(0)
    vms.lab.clock.advance(10)
    assert _drivers(vms, vm)


@pytest.mark.parametrize(
    ("guest", "error", "seconds"),
    [
        ("ignore-shutdown", "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", 61),
        ("no-drivers", "VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", 61),
        ("hang-shutdown", "VM_SHUTDOWN_TIMEOUT", 1201),
    ],
)
def test_a_guest_that_does_not_obey_goes_on(
    vms: Vms, guest: str, error: str, seconds: float
) -> None:
    vm = _start(vms, guest)
    vms.lab.clock.advance(10)
    task = vms.session.xenapi_request("Async.VM.clean_shutdown", (vm,))
    vms.lab.clock.advance(seconds)
    assert vms.api.task.get_error_info(task)[:2] == [error, vm]
    assert vms.state(vm) == "Running"


def test_shutdown_falls_back_to_force(vms: Vms) -> None:
    vm = _start(vms, "ignore-shutdown")
    vms.lab.clock.advance(10)
    task = vms.session.xenapi_request("Async.VM.shutdown", (vm,))
    vms.lab.clock.advance(62)
    assert vms.api.task.get_status(task) == "success"
    assert vms.state(vm) == "Halted"


def test_hard_shutdown_ends_the_wait_of_a_clean_one(vms: Vms) -> None:
    vm = _start(vms, "hang-shutdown")
    vms.lab.clock.advance(10)
    clean = vms.session.xenapi_request("Async.VM.clean_shutdown", (vm,))
    hard = vms.session.xenapi_request("Async.VM.hard_shutdown", (vm,))
    vms.lab.clock.advance(2)
    assert vms.api.task.get_status(clean) == "cancelled"
    assert vms.api.task.get_status(hard) == "success"
    assert vms.state(vm) == "Halted"


def test_a_guest_that_exits_halts_its_vm(vms: Vms) -> None:
    vm = _start(vms, "exit=60")
    vms.lab.clock.advance(30)
    assert vms.state(vm) == "Running"
    vms.lab.clock.advance(60)
    assert vms.state(vm) == "Halted"
    assert vms.api.VM.get_resident_on(vm) == "OpaqueRef:NULL"


def test_a_guest_that_exits_starts_again_if_the_vm_says_so(vms: Vms) -> None:
    vm = _start(vms, "exit=60", actions_after_shutdown="restart")
    domid = vms.api.VM.get_domid(vm)
    vms.lab.clock.advance(70)
    assert vms.state(vm) == "Running"
    assert vms.api.VM.get_domid(vm) != domid


def test_a_crash_soon_after_the_start_halts_whatever_is_wished(vms: Vms) -> None:
    vm = _start(vms, "crash=30", actions_after_crash="restart")
    vms.lab.clock.advance(60)
    assert vms.state(vm) == "Halted"


def test_a_later_crash_restarts_if_wished(vms: Vms) -> None:
    vm = _start(vms, "crash=200", actions_after_crash="restart")
    vms.lab.clock.advance(210)
    assert vms.state(vm) == "Running"


def test_a_crash_may_keep_the_domain_for_inspection(vms: Vms) -> None:
    vm = _start(vms, "crash=200", actions_after_crash="preserve")
    vms.lab.clock.advance(210)
    assert vms.state(vm) == "Paused"


def test_a_crash_is_told(vms: Vms) -> None:
    vm = _start(vms, "crash=30")
    vms.lab.clock.advance(60)
    uuid = vms.api.VM.get_uuid(vm)
    names = [m["name"] for m in vms.api.message.get_all_records().values() if m["obj_uuid"] == uuid]
    assert "VM_CRASHED" in names


def test_a_reboot_soon_after_the_start_waits_fifteen_seconds(vms: Vms) -> None:
    vm = _start(vms, "reboot=30")
    domid = vms.api.VM.get_domid(vm)
    vms.lab.clock.advance(40)
    assert vms.api.VM.get_domid(vm) == domid
    vms.lab.clock.advance(15)
    assert vms.api.VM.get_domid(vm) != domid
    assert vms.state(vm) == "Running"


def test_a_guest_does_as_it_is_told_from_outside(vms: Vms) -> None:
    vm = _start(vms, "")
    uuid = vms.api.VM.get_uuid(vm)
    vms.lab.clock.advance(10)
    vms.lab.do(lambda lab: lab.faults.tell_guest(lab.machine("h2"), uuid, "exit"))
    vms.lab.clock.advance(2)
    assert vms.state(vm) == "Halted"


def test_what_a_guest_writes_below_vm_data_comes_back(vms: Vms) -> None:
    vm = _start(vms, "")
    uuid = vms.api.VM.get_uuid(vm)
    vms.lab.do(lambda lab: lab.machine("h2").domains[uuid].write_vm_data("exit", "3"))
    assert vms.api.VM.get_xenstore_data(vm) == {"vm-data/exit": "3"}


def test_a_guest_tells_what_it_was_given_to_tell(vms: Vms) -> None:
    vm = _start(vms, "tell=ready:1 tell=port:8080")
    vms.lab.clock.advance(10)
    assert vms.api.VM.get_xenstore_data(vm) == {"vm-data/ready": "1", "vm-data/port": "8080"}


def test_a_crash_on_the_way_to_another_host_is_noticed_there(vms: Vms) -> None:
    vm = _start(vms, "")
    uuid = vms.api.VM.get_uuid(vm)
    vms.lab.clock.advance(10)
    vms.session.xenapi_request("Async.VM.pool_migrate", (vm, vms.hosts["h1"], {}))
    vms.lab.do(lambda lab: lab.machine("h2").domains[uuid].tell("crash"))
    vms.lab.clock.advance(5)
    assert vms.state(vm) == "Halted"


def test_a_guest_that_never_boots_does_not_suspend_cleanly(vms: Vms) -> None:
    vm = _start(vms, "boot-fails")
    vms.lab.clock.advance(60)
    answer = error_of(vms.api.VM.assert_operation_valid, vm, "changing_VCPUs_live")
    assert answer == ["VM_LACKS_FEATURE", vm]


def test_a_console_keeps_only_its_last_bytes() -> None:
    console = Console()
    for number in range(2000):
        console.write(b"%060d\r\n" % number)
    assert len(console.output) == CONSOLE_BYTES
    assert console.output.endswith(b"1999\r\n")


def test_watchers_of_a_console_see_what_is_written_until_they_leave() -> None:
    console, seen = Console(), list[bytes]()
    leave = console.subscribe(seen.append)
    console.write(b"one")
    leave()
    console.write(b"two")
    assert seen == [b"one"]


def test_a_blank_guest_waits_for_its_root_disk_and_then_says_what_it_has(vms: Vms) -> None:
    vm = _start(vms, "", HVM_boot_policy="", domain_type="pvh", PV_args="quiet bulkhead.blank")
    vms.lab.clock.advance(10)
    assert vms.api.VM.get_xenstore_data(vm)["vm-data/blank"] == "1"
    vms.lab.clock.set_rate(100)
    vif = vms.give_interface(vm, vms.api.network.get_all()[0])
    vms.api.VIF.set_ipv4_allowed(vif, ["10.1.2.3"])
    disk = vms.give_disk(vm, vms.disk(vms.shared_storage()), userdevice="0")
    vms.api.VIF.plug(vif)
    assert vms.api.VM.get_xenstore_data(vm)["vm-data/blank"] == "1"
    vms.api.VBD.plug(disk)
    vms.lab.clock.advance(1)
    assert vms.api.VM.get_xenstore_data(vm)["vm-data/blank"] == "0"
    networks = vms.api.VM_guest_metrics.get_networks(vms.api.VM.get_guest_metrics(vm))
    assert networks["0/ip"] == "10.1.2.3"
