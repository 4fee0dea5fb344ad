"""Taking hosts out of service and emptying them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.samples import GIB
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


def test_a_disabled_host_may_go_down(vms: Vms) -> None:
    host = vms.hosts["h2"]
    enabled = set(vms.api.host.get_allowed_operations(host))
    vms.api.host.disable(host)
    disabled = set(vms.api.host.get_allowed_operations(host))
    assert enabled == {"vm_migrate", "provision", "vm_resume", "enable", "evacuate", "vm_start"}
    assert disabled - enabled == {"apply_updates", "reboot", "shutdown"}


def test_enabling_and_disabling_twice_is_once(vms: Vms) -> None:
    host = vms.hosts["h2"]
    for _ in range(2):
        vms.api.host.disable(host)
    assert not vms.api.host.get_enabled(host)
    for _ in range(2):
        vms.api.host.enable(host)
    assert vms.api.host.get_enabled(host)


def test_an_enabled_host_does_not_go_down(vms: Vms) -> None:
    for call in (vms.api.host.shutdown, vms.api.host.reboot):
        assert error_of(call, vms.hosts["h2"]) == ["HOST_NOT_DISABLED"]


def test_a_live_host_is_not_dead(vms: Vms) -> None:
    for call in ("declare_dead", "destroy", "power_on"):
        for name in ("h1", "h2"):
            answer = error_of(getattr(vms.api.host, call), vms.hosts[name])
            assert answer == ["HOST_IS_LIVE", vms.hosts[name]]


def test_evacuation_moves_every_vm_and_does_not_disable(vms: Vms) -> None:
    moved = [vms.started("h2") for _ in range(3)]
    vms.api.host.evacuate(vms.hosts["h2"])
    assert {vms.where(vm) for vm in moved} == {"h1"}
    assert vms.api.host.get_enabled(vms.hosts["h2"])


def test_evacuation_without_room_moves_nothing(vms: Vms) -> None:
    stuck, small = vms.started("h1", memory=40 * GIB), vms.started("h1")
    vms.started("h2", memory=40 * GIB)
    expected = ["HOST_NOT_ENOUGH_FREE_MEMORY", stuck]
    preventing = vms.api.host.get_vms_which_prevent_evacuation(vms.hosts["h1"])
    assert preventing == {stuck: expected}
    assert error_of(vms.api.host.evacuate, vms.hosts["h1"]) == expected
    assert vms.where(small) == "h1"


def test_evacuation_without_another_host_names_the_vms(vms: Vms) -> None:
    vm = vms.started("h2")
    vms.api.host.disable(vms.hosts["h1"])
    preventing = vms.api.host.get_vms_which_prevent_evacuation(vms.hosts["h2"])
    assert preventing == {vm: ["NO_HOSTS_AVAILABLE", vm]}
    assert error_of(vms.api.host.evacuate, vms.hosts["h2"]) == ["NO_HOSTS_AVAILABLE", vm]


def test_a_paused_vm_prevents_evacuation_and_a_suspended_one_does_not(vms: Vms) -> None:
    paused, suspended = vms.started("h2"), vms.started("h2")
    vms.api.VM.pause(paused)
    vms.api.VM.suspend(suspended)
    preventing = vms.api.host.get_vms_which_prevent_evacuation(vms.hosts["h2"])
    assert preventing == {paused: ["VM_BAD_POWER_STATE", paused, "running", "paused"]}


def test_a_local_disk_prevents_evacuation(vms: Vms) -> None:
    storage = vms.local_storage("h2")
    vm = vms.vm()
    vms.give_disk(vm, vms.disk(storage))
    vms.api.VM.start(vm, False, False)
    assert error_of(vms.api.host.assert_can_evacuate, vms.hosts["h2"]) == [
        "CANNOT_EVACUATE_HOST",
        f"VM_REQUIRES_SR,{vm},{storage}",
    ]


def test_a_host_being_evacuated_takes_no_vm(vms: Vms) -> None:
    running, waiting = vms.started("h2"), vms.vm()
    vms.lab.clock.set_rate(0)
    leaving = vms.session.xenapi_request("Async.host.evacuate", (vms.hosts["h2"],))
    answer = error_of(vms.api.VM.start_on, waiting, vms.hosts["h2"], False, False)
    assert answer == ["HOST_EVACUATE_IN_PROGRESS", vms.hosts["h2"]]
    vms.lab.clock.advance(30)
    vms.lab.clock.set_rate(20)
    assert vms.api.task.get_status(leaving) == "success"
    assert vms.where(running) == "h1"


def test_a_plugin_that_is_not_there_is_missing(vms: Vms) -> None:
    answer = error_of(vms.api.host.call_plugin, vms.hosts["h1"], "nope", "f", {})
    assert answer == ["XENAPI_MISSING_PLUGIN", "nope"]


def test_a_hosts_time_shows_its_skew(vms: Vms) -> None:
    vms.lab.do(lambda lab: setattr(lab.machine("h2"), "clock_skew", 3600.0))
    here, there = (vms.api.host.get_servertime(vms.hosts[name]).value for name in ("h1", "h2"))
    vms.lab.do(lambda lab: setattr(lab.machine("h2"), "clock_skew", 0.0))
    assert int(there[9:11]) == (int(here[9:11]) + 1) % 24


def test_internal_calls_are_refused_to_outsiders(vms: Vms) -> None:
    name = "host.ha_disable_failover_decisions"
    answer = error_of(vms.api.host.ha_disable_failover_decisions, vms.hosts["h1"])
    text = f'Internal API "{name}" call attempted with non-pool (external) session'
    assert answer == ["INTERNAL_ERROR", text]
