"""High availability: planning, refusing, and restarting what a failed host ran."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.samples import GIB
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


def _pool(vms: Vms) -> str:
    return str(vms.api.pool.get_all()[0])


def _arm(vms: Vms) -> None:
    vms.api.pool.enable_ha([vms.shared_storage()], {})


def _protected(vms: Vms, host: str, priority: str = "restart") -> str:
    vm = vms.vm()
    vms.api.VM.set_ha_restart_priority(vm, priority)
    vms.api.VM.start_on(vm, vms.hosts[host], False, False)
    return vm


def test_arming_makes_a_statefile_and_disarming_removes_it(vms: Vms) -> None:
    _arm(vms)
    statefiles = vms.api.pool.get_ha_statefiles(_pool(vms))
    assert [vms.api.VDI.get_type(ref) for ref in statefiles] == ["ha_statefile"]
    assert error_of(vms.api.pool.enable_ha, [], {}) == ["HA_IS_ENABLED"]
    vms.api.pool.disable_ha()
    assert vms.api.pool.get_ha_statefiles(_pool(vms)) == []
    assert error_of(vms.api.pool.disable_ha) == ["HA_NOT_ENABLED"]


def test_without_protected_vms_every_host_may_fail(vms: Vms) -> None:
    assert vms.api.pool.ha_compute_max_host_failures_to_tolerate() == "3"


def test_one_protected_vm_needs_one_host(vms: Vms) -> None:
    vm = vms.vm()
    call = vms.api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate
    assert call({vm: "restart"}) == "2"
    assert call({vm: "best-effort"}) == "3"


def test_a_vm_that_cannot_move_leaves_no_failure_to_tolerate(vms: Vms) -> None:
    vm = vms.vm()
    storage = vms.local_storage("h1")
    vms.give_disk(vm, vms.disk(storage))
    call = vms.api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate
    assert call({vm: "restart"}) == "0"
    assert error_of(vms.api.VM.assert_agile, vm) == [
        "HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED",
        storage,
    ]


def test_memory_bounds_the_failures_to_tolerate(vms: Vms) -> None:
    big = {vms.vm(memory=40 * GIB): "restart" for _ in range(2)}
    call = vms.api.pool.ha_compute_hypothetical_max_host_failures_to_tolerate
    assert call(big) == "1"


def test_a_number_of_failures_without_a_plan_is_refused(vms: Vms) -> None:
    _arm(vms)
    set_failures = vms.api.pool.set_ha_host_failures_to_tolerate
    wrong = ["INVALID_VALUE", "ha_host_failures_to_tolerate", "-1"]
    assert error_of(set_failures, _pool(vms), "-1") == wrong
    refused = ["HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"]
    assert error_of(set_failures, _pool(vms), "5") == refused
    set_failures(_pool(vms), "1")
    assert vms.api.pool.get_ha_plan_exists_for(_pool(vms)) == "1"
    assert not vms.api.pool.get_ha_overcommitted(_pool(vms))


def test_protecting_a_running_vm_that_cannot_move_is_refused(vms: Vms) -> None:
    vm = vms.vm()
    vms.give_disk(vm, vms.disk(vms.local_storage("h1")))
    vms.api.VM.start(vm, False, False)
    _arm(vms)
    answer = error_of(vms.api.VM.set_ha_restart_priority, vm, "restart")
    assert answer == ["HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN"]


def test_a_plan_says_where_a_vm_would_start(vms: Vms) -> None:
    vm = _protected(vms, "h3")
    vms.api.VM.set_affinity(vm, vms.hosts["h2"])
    plan = vms.api.pool.ha_compute_vm_failover_plan([vms.hosts["h3"]], [vm])
    assert plan == {vm: {"host": vms.hosts["h2"]}}


def test_ha_guards_the_pool_against_shrinking(vms: Vms) -> None:
    _arm(vms)
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.clock.set_rate(0)
    vms.lab.clock.advance(60)
    assert error_of(vms.api.host.destroy, vms.hosts["h3"]) == ["HA_IS_ENABLED"]


def test_a_failed_hosts_vms_restart_by_their_priority(vms: Vms) -> None:
    _arm(vms)
    protected, best = _protected(vms, "h3"), _protected(vms, "h3", "best-effort")
    unprotected = vms.started("h3")
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: lab.machine("h3").power_off())
    vms.lab.clock.advance(25)
    assert vms.state(unprotected) == "Running"
    vms.lab.clock.advance(15)
    assert vms.where(protected) in ("h1", "h2")
    assert vms.where(best) in ("h1", "h2")
    assert vms.state(unprotected) == "Halted"
    live = vms.api.host_metrics.get_live(vms.api.host.get_metrics(vms.hosts["h3"]))
    assert not live
    told = [m["name"] for m in vms.api.message.get_all_records().values()]
    assert "HA_HOST_FAILED" in told


def test_a_host_cut_off_fences_itself(vms: Vms) -> None:
    _arm(vms)
    protected = _protected(vms, "h3")
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: setattr(lab.machine("h3"), "isolated", True))
    vms.lab.clock.advance(45)
    assert not vms.lab.do(lambda lab: lab.machine("h3").powered)
    assert vms.where(protected) in ("h1", "h2")
    assert vms.lab.do(lambda lab: lab.detector.violations) == []


def test_a_failed_coordinator_is_replaced(vms: Vms) -> None:
    _arm(vms)
    vms.lab.clock.set_rate(0)
    vms.lab.do(lambda lab: lab.machine("h1").power_off())
    vms.lab.clock.advance(60)
    assert vms.lab.do(lambda lab: lab.coordinator.name) in ("h2", "h3")
