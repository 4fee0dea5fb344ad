"""Power states of VMs: what each call does in each, and what the records show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("pause", (), "running"),
        ("unpause", (), "paused"),
        ("suspend", (), "running"),
        ("clean_shutdown", (), "running"),
        ("hard_shutdown", (), "paused, suspended, running"),
        ("shutdown", (), "paused, suspended, running"),
        ("clean_reboot", (), "running"),
        ("hard_reboot", (), "paused, running"),
        ("resume", (False, False), "suspended"),
    ],
)
def test_a_halted_vm_refuses_what_needs_a_domain(
    vms: Vms, call: str, arguments: tuple[bool, ...], expected: str
) -> None:
    vm = vms.vm()
    answer = error_of(getattr(vms.api.VM, call), vm, *arguments)
    assert answer == ["VM_BAD_POWER_STATE", vm, expected, "halted"]


def test_a_template_does_not_start(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.set_is_a_template(vm, True)
    assert error_of(vms.api.VM.start, vm, False, False) == ["VM_IS_TEMPLATE", vm, "start"]
    vms.api.VM.set_is_a_template(vm, False)


def test_a_blocked_start_says_why(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.add_to_blocked_operations(vm, "start", "because")
    assert error_of(vms.api.VM.start, vm, False, False) == ["OPERATION_BLOCKED", vm, "because"]


def test_a_start_in_pause_leaves_the_vm_paused(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.start(vm, True, False)
    assert vms.state(vm) == "Paused"
    assert sorted(vms.api.VM.get_allowed_operations(vm)) == [
        "hard_reboot",
        "hard_shutdown",
        "metadata_export",
        "snapshot",
        "unpause",
    ]
    answer = error_of(vms.api.VM.start, vm, False, False)
    assert answer == ["VM_BAD_POWER_STATE", vm, "halted", "paused"]
    vms.api.VM.unpause(vm)
    assert vms.state(vm) == "Running"


def test_a_running_vm_is_not_destroyed(vms: Vms) -> None:
    vm = vms.started("h1")
    answer = error_of(vms.api.VM.destroy, vm)
    assert answer == ["VM_BAD_POWER_STATE", vm, "halted, suspended", "running"]


def test_a_running_vm_has_a_domain_consoles_and_metrics(vms: Vms) -> None:
    vm = vms.started("h2")
    record = vms.api.VM.get_record(vm)
    metrics = vms.api.VM_metrics.get_record(record["metrics"])
    consoles = [vms.api.console.get_record(ref) for ref in record["consoles"]]
    assert int(record["domid"]) > 0
    assert record["resident_on"] == vms.hosts["h2"]
    assert record["scheduled_to_be_resident_on"] == "OpaqueRef:NULL"
    assert (metrics["hvm"], metrics["current_domain_type"]) == (True, "hvm")
    assert {console["protocol"] for console in consoles} == {"rfb", "vt100"}
    for console, ref in zip(consoles, record["consoles"], strict=True):
        assert console["location"].endswith(f"/console?ref={ref}")


def test_a_halted_vm_is_nowhere(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.api.VM.clean_shutdown(vm)
    record = vms.api.VM.get_record(vm)
    assert (record["power_state"], record["domid"]) == ("Halted", "-1")
    assert record["resident_on"] == "OpaqueRef:NULL"
    assert record["consoles"] == []
    assert record["memory_target"] == "0"


def test_each_start_and_reboot_has_guest_metrics_and_a_domid_of_its_own(vms: Vms) -> None:
    vm = vms.started("h1")
    before = (vms.api.VM.get_guest_metrics(vm), vms.api.VM.get_domid(vm))
    vms.api.VM.clean_reboot(vm)
    after = (vms.api.VM.get_guest_metrics(vm), vms.api.VM.get_domid(vm))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_suspended_vm_keeps_its_memory_in_a_vdi_that_resuming_destroys(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.api.VM.suspend(vm)
    image = vms.api.VDI.get_record(vms.api.VM.get_suspend_VDI(vm))
    assert (vms.state(vm), image["type"], image["virtual_size"]) == (
        "Suspended",
        "suspend",
        "444596224",
    )
    vms.api.VM.resume(vm, False, False)
    assert (vms.state(vm), vms.api.VM.get_suspend_VDI(vm)) == ("Running", "OpaqueRef:NULL")
    assert error_of(vms.api.VDI.get_by_uuid, image["uuid"])[0] == "UUID_INVALID"


def test_suspending_needs_somewhere_to_put_the_image(vms: Vms) -> None:
    vm = vms.started("h1")
    pool = vms.api.pool.get_all()[0]
    kept = vms.api.pool.get_suspend_image_SR(pool)
    vms.api.pool.set_suspend_image_SR(pool, "OpaqueRef:NULL")
    try:
        assert error_of(vms.api.VM.suspend, vm) == ["VM_NO_SUSPEND_SR", vm]
    finally:
        vms.api.pool.set_suspend_image_SR(pool, kept)


def test_shutting_down_a_suspended_vm_drops_its_image(vms: Vms) -> None:
    vm = vms.started("h1")
    vms.api.VM.suspend(vm)
    vms.api.VM.hard_shutdown(vm)
    assert (vms.state(vm), vms.api.VM.get_suspend_VDI(vm)) == ("Halted", "OpaqueRef:NULL")


def test_a_running_vm_of_the_coordinator_is_not_reset(vms: Vms) -> None:
    vm = vms.started("h1")
    assert error_of(vms.api.VM.power_state_reset, vm) == ["DOMAIN_EXISTS", vm]


def test_a_running_vm_of_a_member_that_answers_is_not_reset(vms: Vms) -> None:
    vm = vms.started("h2")
    assert error_of(vms.api.VM.power_state_reset, vm) == ["HOST_IS_LIVE", vms.hosts["h2"]]


def test_always_run_follows_the_priority_restart(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.set_ha_restart_priority(vm, "restart")
    seen = [vms.api.VM.get_ha_always_run(vm)]
    for call, arguments in (
        ("start", (False, False)),
        ("suspend", ()),
        ("resume", (False, False)),
        ("hard_shutdown", ()),
    ):
        getattr(vms.api.VM, call)(vm, *arguments)
        seen.append(vms.api.VM.get_ha_always_run(vm))
    assert seen == [False, True, False, True, False]


def test_changes_of_power_leave_messages(vms: Vms) -> None:
    vm = vms.started("h2")
    uuid, name = vms.api.VM.get_uuid(vm), vms.api.VM.get_name_label(vm)
    vms.api.VM.clean_reboot(vm)
    vms.api.VM.suspend(vm)
    vms.api.VM.resume_on(vm, vms.hosts["h1"], False, False)
    vms.api.VM.pause(vm)
    vms.api.VM.unpause(vm)
    vms.api.VM.hard_shutdown(vm)
    told = {
        message["name"]: (message["body"], message["priority"])
        for message in vms.api.message.get_all_records().values()
        if message["obj_uuid"] == uuid
    }
    hosts = {label: vms.api.host.get_uuid(ref) for label, ref in vms.hosts.items()}
    vm_text = f"VM '{name}' (uuid: {uuid})"
    assert told == {
        "VM_STARTED": (f"{vm_text} started on host: h2 (uuid: {hosts['h2']})", "5"),
        "VM_REBOOTED": (f"{vm_text} rebooted cleanly", "5"),
        "VM_SUSPENDED": (f"{vm_text} suspended", "5"),
        "VM_RESUMED": (f"{vm_text} resumed on host: h1 (uuid: {hosts['h1']})", "5"),
        "VM_PAUSED": (f"{vm_text} paused", "5"),
        "VM_UNPAUSED": (f"{vm_text} unpaused", "5"),
        "VM_SHUTDOWN": (f"{vm_text} shutdown forcibly", "5"),
    }


def test_disks_and_interfaces_are_plugged_while_the_vm_runs(vms: Vms) -> None:
    vm = vms.vm()
    vbd = vms.give_disk(vm, vms.disk(vms.shared_storage()))
    vif = vms.give_interface(vm, vms.api.network.get_by_name_label(_network(vms))[0])
    vms.api.VM.start(vm, False, False)
    assert vms.api.VBD.get_currently_attached(vbd)
    assert vms.api.VIF.get_currently_attached(vif)
    assert vms.api.VBD.get_device(vbd) == "xvda"
    vms.api.VM.hard_shutdown(vm)
    assert not vms.api.VBD.get_currently_attached(vbd)
    assert not vms.api.VIF.get_currently_attached(vif)


def _network(vms: Vms) -> str:
    """The name of the management network."""
    return next(
        str(record["name_label"])
        for record in vms.api.network.get_all_records().values()
        if record["bridge"] == "xenbr0"
    )


def test_a_disk_that_another_running_vm_writes_keeps_a_vm_from_starting(vms: Vms) -> None:
    disk = vms.disk(vms.shared_storage())
    first, second = vms.vm(), vms.vm()
    vms.give_disk(first, disk)
    vms.give_disk(second, disk)
    vms.api.VM.start(first, False, False)
    assert error_of(vms.api.VM.start, second, False, False) == ["VDI_IN_USE", disk]
    assert vms.api.VM.get_current_operations(second) == {}
    assert vms.state(second) == "Halted"
