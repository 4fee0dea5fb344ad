"""Hosts that lose their power or their toolstack, go down, and come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture
def vms() -> Iterator[Vms]:
    with (
        running_lab(hosts=3, tls=False, rate=0.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        lab.clock.set_rate(200.0)
        yield vms


def _live(vms: Vms, name: str) -> bool:
    return bool(vms.api.host_metrics.get_live(vms.api.host.get_metrics(vms.hosts[name])))


def test_a_powerless_host_is_found_out_late(vms: Vms) -> None:
    vm = vms.started("h3")
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    before = vms.lab.clock.now()
    answer = error_of(vms.api.VM.clean_shutdown, vm)
    assert answer == ["CANNOT_CONTACT_HOST", vms.hosts["h3"]]
    assert vms.lab.clock.now() - before > 100
    assert vms.state(vm) == "Running"
    vms.api.VM.power_state_reset(vm)
    assert (vms.state(vm), _live(vms, "h3")) == ("Halted", True)


def test_a_host_is_not_live_ten_minutes_after_its_last_heartbeat(vms: Vms) -> None:
    vm = vms.started("h3")
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.clock.advance(560)
    assert _live(vms, "h3")
    vms.lab.clock.advance(100)
    assert not _live(vms, "h3")
    assert vms.state(vm) == "Running"
    assert error_of(vms.api.VM.hard_shutdown, vm) == ["HOST_OFFLINE", vms.hosts["h3"]]
    # Nobody asks a host that is known to be dead: the clock stands still here.
    vms.api.VM.power_state_reset(vm)
    assert vms.state(vm) == "Halted"


def test_a_dead_host_is_declared_so_and_its_vms_start_elsewhere(vms: Vms) -> None:
    vm = vms.started("h3")
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.api.host.declare_dead(vms.hosts["h3"])
    assert vms.state(vm) == "Halted"
    assert not vms.api.host.get_enabled(vms.hosts["h3"])
    vms.api.VM.start(vm, False, False)
    assert vms.where(vm) in ("h1", "h2")


def _with_a_disk_on(vms: Vms, host: str) -> str:
    vm = vms.vm()
    vms.give_disk(vm, vms.disk(vms.shared_storage()))
    vms.api.VM.start_on(vm, vms.hosts[host], False, False)
    return vm


def test_resetting_a_vm_leaves_the_dead_hosts_lock_on_its_disk(vms: Vms) -> None:
    vm = _with_a_disk_on(vms, "h3")
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.api.VM.power_state_reset(vm)
    answer = error_of(vms.api.VM.start_on, vm, vms.hosts["h2"], False, False)
    assert answer[0] == "SR_BACKEND_FAILURE_46"
    assert vms.state(vm) == "Halted"


def test_declaring_a_host_dead_frees_its_disks(vms: Vms) -> None:
    vm = _with_a_disk_on(vms, "h3")
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.api.host.declare_dead(vms.hosts["h3"])
    vms.api.VM.start_on(vm, vms.hosts["h2"], False, False)
    assert vms.where(vm) == "h2"
    assert vms.lab.do(lambda lab: lab.detector.violations) == []


def test_a_host_comes_back_empty_and_enabled(vms: Vms) -> None:
    vm = vms.started("h3")
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: lab.machine("h3").power_on())
    vms.lab.clock.advance(11)
    assert not vms.api.host.get_enabled(vms.hosts["h3"])
    assert vms.state(vm) == "Halted"
    vms.lab.clock.advance(2)
    assert vms.api.host.get_enabled(vms.hosts["h3"])
    vms.lab.clock.set_rate(200)
    vms.api.VM.start_on(vm, vms.hosts["h3"], False, False)


def test_a_host_disabled_for_good_stays_so(vms: Vms) -> None:
    vms.api.host.disable(vms.hosts["h3"], False)
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.do(lambda lab: lab.machine("h3").power_on())
    vms.lab.clock.advance(60)
    assert not vms.api.host.get_enabled(vms.hosts["h3"])


def test_guests_outlive_their_toolstack(vms: Vms) -> None:
    vm = vms.started("h2")
    vms.lab.do(lambda lab: lab.machine("h2").crash_toolstack())
    uuid = vms.api.VM.get_uuid(vm)
    assert vms.lab.do(lambda lab: uuid in lab.machine("h2").domains)
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: lab.machine("h2").restart_toolstack())
    vms.lab.clock.advance(30)
    vms.lab.clock.set_rate(200)
    assert (vms.state(vm), vms.where(vm)) == ("Running", "h2")
    vms.api.VM.clean_shutdown(vm)


def test_a_vm_started_beside_its_running_self_is_detected(vms: Vms) -> None:
    vm = vms.started("h3")
    uuid = vms.api.VM.get_uuid(vm)
    vms.lab.do(lambda lab: lab.machine("h3").crash_toolstack())
    vms.api.VM.power_state_reset(vm)
    vms.api.VM.start_on(vm, vms.hosts["h2"], False, False)
    violations = vms.lab.do(lambda lab: list(lab.detector.violations))
    assert [(v.kind, v.uuid, v.hosts) for v in violations] == [
        ("vm_runs_twice", uuid, ("h2", "h3"))
    ]


def test_a_reboot_takes_a_host_down_and_brings_it_back(vms: Vms) -> None:
    host = vms.hosts["h3"]
    vms.api.host.disable(host)
    vms.lab.clock.set_rate(0)
    vms.api.host.reboot(host)
    assert list(vms.api.host.get_current_operations(host).values()) == ["shutdown"]
    assert error_of(vms.api.host.enable, host) == ["HOST_DISABLED_UNTIL_REBOOT", host]
    vms.lab.clock.advance(11)
    assert not _live(vms, "h3")
    vms.lab.clock.advance(20)
    assert _live(vms, "h3")
    assert vms.api.host.get_enabled(host)
    assert vms.api.host.get_current_operations(host) == {}


def test_a_host_that_was_shut_down_is_powered_on(vms: Vms) -> None:
    host = vms.hosts["h3"]
    vms.api.host.set_power_on_mode(host, "custom", {})
    vms.api.host.disable(host)
    vms.lab.clock.set_rate(0)
    vms.api.host.shutdown(host)
    allowed = {"enable", "evacuate", "shutdown", "vm_start"}
    assert set(vms.api.host.get_allowed_operations(host)) == allowed
    vms.lab.clock.advance(11)
    assert set(vms.api.host.get_allowed_operations(host)) == allowed | {"power_on"}
    vms.api.host.power_on(host)
    vms.lab.clock.advance(15)
    assert _live(vms, "h3")
    assert vms.api.host.get_enabled(host)


def test_powering_on_needs_a_way_to_do_it(vms: Vms) -> None:
    host = vms.hosts["h3"]
    vms.api.host.disable(host)
    vms.lab.clock.set_rate(0)
    vms.api.host.shutdown(host)
    vms.lab.clock.advance(11)
    assert error_of(vms.api.host.power_on, host) == ["HOST_POWER_ON_MODE_DISABLED"]


def test_a_dead_host_is_removed_with_all_that_was_its(vms: Vms) -> None:
    host = vms.hosts["h3"]
    vm = vms.started("h3")
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.clock.set_rate(0)
    vms.lab.clock.advance(700)
    assert error_of(vms.api.host.destroy, host) == ["HOST_HAS_RESIDENT_VMS", host]
    vms.api.host.declare_dead(host)
    vms.api.host.destroy(host)
    assert vms.state(vm) == "Halted"
    assert error_of(vms.api.host.get_record, host) == ["HANDLE_INVALID", "host", host]
    assert len(vms.api.host.get_all()) == 2
