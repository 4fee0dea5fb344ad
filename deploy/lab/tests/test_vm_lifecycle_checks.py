"""What is allowed when: the order of the checks, templates, snapshots, blocked operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.lab import Lab
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

HALTED = (
    "create_vtpm destroy metadata_export export make_into_template changing_NVRAM "
    "changing_shadow_memory changing_static_range changing_dynamic_range migrate_send start_on "
    "start copy clone snapshot"
)
TEMPLATE = (
    "destroy metadata_export export changing_NVRAM changing_shadow_memory changing_static_range "
    "changing_dynamic_range migrate_send provision copy clone"
)


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with running_lab(hosts=1, tls=False, preset="small", rate=20.0) as lab, vms_of(lab) as vms:
        yield vms


def test_a_halted_vm_lists_what_the_daemon_lists_in_its_order(vms: Vms) -> None:
    assert vms.api.VM.get_allowed_operations(vms.vm()) == HALTED.split()


def test_an_own_template_may_be_destroyed_and_a_default_one_not(vms: Vms) -> None:
    own = vms.vm(is_a_template=True)
    default = vms.api.VM.get_by_name_label("Other install media")[0]
    assert vms.api.VM.get_allowed_operations(own) == TEMPLATE.split()
    assert "destroy" not in vms.api.VM.get_allowed_operations(default)
    assert "migrate_send" not in vms.api.VM.get_allowed_operations(default)


def test_a_control_domain_allows_next_to_nothing(vms: Vms) -> None:
    host = next(iter(vms.hosts.values()))
    dom0 = vms.api.host.get_control_domain(host)
    allowed = vms.api.VM.get_allowed_operations(dom0)
    assert allowed == ["metadata_export", "changing_static_range", "changing_dynamic_range"]
    assert error_of(vms.api.VM.hard_shutdown, dom0) == [
        "OPERATION_NOT_ALLOWED",
        "This operation is not allowed on a control domain",
    ]
    assert error_of(vms.api.VM.set_VCPUs_max, dom0, "4") == [
        "OPERATION_NOT_ALLOWED",
        "This operation is not allowed on dom0",
    ]


@pytest.mark.parametrize(
    ("op", "word"),
    [
        ("create_template", "(unknown operation)"),
        ("query_services", "(unknown operation)"),
        ("assert_operation_valid", "assertoperationvalid"),
        ("start", "start"),
    ],
)
def test_errors_use_the_daemons_own_words_for_operations(vms: Vms, op: str, word: str) -> None:
    vm = vms.vm(is_a_template=True)
    assert error_of(vms.api.VM.assert_operation_valid, vm, op) == ["VM_IS_TEMPLATE", vm, word]


def test_a_block_comes_before_the_power_state(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.add_to_blocked_operations(vm, "hard_shutdown", "because")
    assert error_of(vms.api.VM.hard_shutdown, vm) == ["OPERATION_BLOCKED", vm, "because"]
    vms.api.VM.remove_from_blocked_operations(vm, "hard_shutdown")
    assert error_of(vms.api.VM.hard_shutdown, vm)[0] == "VM_BAD_POWER_STATE"


def test_a_blocked_operation_is_not_offered(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.VM.set_blocked_operations(vm, {"start": "no"})
    assert "start" not in vms.api.VM.get_allowed_operations(vm)
    assert error_of(vms.api.VM.start, vm, False, False) == ["OPERATION_BLOCKED", vm, "no"]


def test_an_unknown_operation_cannot_be_blocked(vms: Vms) -> None:
    answer = error_of(vms.api.VM.add_to_blocked_operations, vms.vm(), "bogus", "x")
    assert answer == ["INTERNAL_ERROR", 'Failure("Unknown tag/contents")']


def test_only_templates_are_provisioned_and_only_snapshots_reverted(vms: Vms) -> None:
    vm = vms.vm()
    assert error_of(vms.api.VM.provision, vm) == ["PROVISION_ONLY_ALLOWED_ON_TEMPLATE"]
    assert error_of(vms.api.VM.revert, vm) == ["VM_REVERT_FAILED", vm, "OpaqueRef:NULL"]
    answer = error_of(vms.api.VM.assert_operation_valid, vm, "revert")
    assert answer == ["REVERT_ONLY_ALLOWED_ON_SNAPSHOT"]


@pytest.mark.parametrize(
    ("running", "wanted", "joins"),
    [
        ("clone", "copy", True),
        ("snapshot", "checkpoint", False),
        ("clone", "start", False),
        ("snapshot_with_quiesce", "snapshot", True),
        ("migrate_send", "start", True),
        ("start", "destroy", False),
    ],
)
def test_some_operations_may_run_together(vms: Vms, running: str, wanted: str, joins: bool) -> None:
    vm = vms.vm()
    _hold(vms, vm, running)
    if joins:
        vms.api.VM.assert_operation_valid(vm, wanted)
    else:
        answer = error_of(vms.api.VM.assert_operation_valid, vm, wanted)
        expected = ["OTHER_OPERATION_IN_PROGRESS", "VM", vm, running, "OpaqueRef:other"]
        assert answer[0] == "VM_BAD_POWER_STATE" or answer == expected


def _hold(vms: Vms, vm: str, operation: str) -> None:
    def hold(lab: Lab) -> None:
        lab.db.update(lab.db.get("VM", vm), current_operations={"OpaqueRef:other": operation})

    vms.lab.do(hold)


def test_a_rolling_upgrade_forbids_the_unusual(vms: Vms) -> None:
    pool = vms.api.pool.get_all()[0]
    vm = vms.vm()
    vms.api.pool.add_to_other_config(pool, "rolling_upgrade_in_progress", "true")
    try:
        answer = error_of(vms.api.VM.assert_operation_valid, vm, "create_vtpm")
        assert answer == ["NOT_SUPPORTED_DURING_UPGRADE"]
        vms.api.VM.assert_operation_valid(vm, "start")
    finally:
        vms.api.pool.remove_from_other_config(pool, "rolling_upgrade_in_progress")


def test_a_running_vm_cannot_become_a_template(vms: Vms) -> None:
    vm = vms.started("h1")
    answer = error_of(vms.api.VM.set_is_a_template, vm, True)
    assert answer == ["VM_BAD_POWER_STATE", vm, "halted", "running"]
    vms.api.VM.hard_shutdown(vm)
