"""Operations that the daemon lets overlap, one of which takes the ground from under the other."""

from __future__ import annotations

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import vms_of


def test_a_reboot_that_waited_for_a_shutdown_does_not_bring_the_vm_back() -> None:
    with running_lab(hosts=2, tls=False, rate=50.0) as lab, vms_of(lab) as vms:
        vm = vms.started("h2")
        lab.clock.advance(10)
        lab.clock.set_rate(0)
        shutdown = vms.session.xenapi_request("Async.VM.clean_shutdown", (vm,))
        reboot = vms.session.xenapi_request("Async.VM.hard_reboot", (vm,))
        lab.clock.advance(120)
        assert vms.api.task.get_status(shutdown) == "success"
        assert vms.api.task.get_error_info(reboot)[0] == "VM_BAD_POWER_STATE"
        assert vms.state(vm) == "Halted"
        assert not any(lab.do(lambda inside: [list(m.domains) for m in inside.machines.values()]))


def test_an_unpause_that_waited_for_a_shutdown_does_not_call_the_vm_running() -> None:
    with running_lab(hosts=2, tls=False, rate=50.0) as lab, vms_of(lab) as vms:
        vm = vms.started("h2")
        vms.api.VM.pause(vm)
        lab.clock.set_rate(0)
        shutdown = vms.session.xenapi_request("Async.VM.hard_shutdown", (vm,))
        unpause = vms.session.xenapi_request("Async.VM.unpause", (vm,))
        lab.clock.advance(120)
        assert vms.api.task.get_status(shutdown) == "success"
        assert vms.api.task.get_status(unpause) == "failure"
        assert (vms.state(vm), vms.where(vm)) == ("Halted", "")


def test_a_shutdown_by_force_finds_a_vm_that_moved_while_it_waited() -> None:
    with running_lab(hosts=2, tls=False, rate=50.0) as lab, vms_of(lab) as vms:
        vm = vms.started("h1")
        lab.clock.advance(10)
        lab.clock.set_rate(0)
        target = vms.hosts["h2"]
        moving = vms.session.xenapi_request("Async.VM.pool_migrate", (vm, target, {}))
        shutdown = vms.session.xenapi_request("Async.VM.hard_shutdown", (vm,))
        lab.clock.advance(120)
        assert vms.api.task.get_status(moving) in ("success", "cancelled")
        assert vms.api.task.get_status(shutdown) == "success"
        assert (vms.state(vm), vms.where(vm)) == ("Halted", "")
        assert not any(lab.do(lambda inside: [list(m.domains) for m in inside.machines.values()]))
