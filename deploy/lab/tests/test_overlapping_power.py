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
