"""Clones, copies, snapshots, checkpoints, reverting, provisioning."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.dispatch import HANDLERS, Handler
from deploy.lab.errors import XapiError
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of

NULL = "OpaqueRef:NULL"


@pytest.fixture(scope="module")
def vms() -> Iterator[Vms]:
    with (
        running_lab(hosts=2, tls=False, preset="small", rate=20.0, guest_boot_seconds=0.0) as lab,
        vms_of(lab) as vms,
    ):
        yield vms


@pytest.fixture
def vm(vms: Vms) -> str:
    """With a disk and an interface."""
    ref = vms.vm(tags=["t"], other_config={"own": "1"})
    vms.give_disk(ref, vms.disk(vms.shared_storage()))
    vms.give_interface(ref, vms.api.network.get_by_name_label("Pool-wide network 0")[0])
    return ref


def disk_of(vms: Vms, vm: str) -> str:
    (vbd,) = vms.api.VM.get_VBDs(vm)
    return str(vms.api.VBD.get_VDI(vbd))


def vif_of(vms: Vms, vm: str) -> Any:
    (vif,) = vms.api.VM.get_VIFs(vm)
    return vms.api.VIF.get_record(vif)


def test_a_clone_has_a_disk_and_an_address_of_its_own(vms: Vms, vm: str) -> None:
    vms.api.VM.add_to_blocked_operations(vm, "pause", "no")
    clone = vms.api.VM.clone(vm, "clone")
    record, source = vms.api.VM.get_record(clone), vms.api.VM.get_record(vm)
    assert disk_of(vms, clone) != disk_of(vms, vm)
    assert vif_of(vms, clone)["MAC"] != vif_of(vms, vm)["MAC"]
    assert record["tags"] == ["t"]
    assert record["blocked_operations"] == {}
    assert record["other_config"]["mac_seed"] != source["other_config"]["mac_seed"]
    assert record["parent"] == NULL


def test_a_clones_disk_is_its_own(vms: Vms, vm: str) -> None:
    (vbd,) = vms.api.VM.get_VBDs(vms.api.VM.clone(vm, "clone"))
    assert vms.api.VBD.get_other_config(vbd) == {"owner": ""}


def test_the_clone_of_a_default_template_is_an_ordinary_one(vms: Vms) -> None:
    template = vms.api.VM.get_by_name_label("Debian Bookworm 12")[0]
    record = vms.api.VM.get_record(vms.api.VM.clone(template, "mine"))
    assert record["is_a_template"]
    assert not record["is_default_template"]
    assert record["other_config"]["base_template_name"] == "Debian Bookworm 12"
    assert "default_template" not in record["other_config"]


def test_a_copy_to_nowhere_stays_beside_the_original(vms: Vms, vm: str) -> None:
    copy = vms.api.VM.copy(vm, "copy", "OpaqueRef:00000000-1111-2222-3333-444444444444")
    sr = vms.api.VDI.get_SR(disk_of(vms, vm))
    assert vms.api.VDI.get_SR(disk_of(vms, copy)) == sr


def test_provisioning_makes_a_vm_even_when_its_disks_fail(vms: Vms) -> None:
    template = vms.api.VM.get_by_name_label("Debian Bookworm 12")[0]
    vm = vms.api.VM.clone(template, "from-template")
    assert error_of(vms.api.VM.provision, vm) == ["UUID_INVALID", "sr", ""]
    assert not vms.api.VM.get_is_a_template(vm)


def test_provisioning_makes_the_disks_asked_for(vms: Vms) -> None:
    sr = vms.api.SR.get_uuid(vms.shared_storage())
    disks = (
        f'<provision><disk device="0" size="{16 << 20}" sr="{sr}" bootable="true" '
        'type="system"/></provision>'
    )
    vm = vms.vm(is_a_template=True, other_config={"disks": disks})
    vms.api.VM.provision(vm)
    assert vms.api.VDI.get_virtual_size(disk_of(vms, vm)) == str(16 << 20)
    assert "disks" not in vms.api.VM.get_other_config(vm)


def test_a_snapshot_is_a_template_that_knows_its_vm(vms: Vms, vm: str) -> None:
    snapshot = vms.api.VM.snapshot(vm, "snap")
    record = vms.api.VM.get_record(snapshot)
    assert record["is_a_snapshot"]
    assert record["is_a_template"]
    assert (record["snapshot_of"], record["children"]) == (vm, [vm])
    assert record["snapshot_info"] == {
        "disk-snapshot-type": "crash_consistent",
        "power-state-at-snapshot": "Halted",
    }
    assert vms.api.VM.get_parent(vm) == snapshot
    assert vif_of(vms, snapshot)["MAC"] == vif_of(vms, vm)["MAC"]
    assert vms.api.VDI.get_snapshot_of(disk_of(vms, snapshot)) == disk_of(vms, vm)


def test_disks_can_be_left_out_of_a_snapshot(vms: Vms, vm: str) -> None:
    snapshot = vms.api.VM.snapshot(vm, "snap", [disk_of(vms, vm)])
    assert vms.api.VM.get_VBDs(snapshot) == []


def test_a_snapshot_takes_no_snapshot_and_does_not_start(vms: Vms, vm: str) -> None:
    snapshot = vms.api.VM.snapshot(vm, "snap")
    answer = error_of(vms.api.VM.snapshot, snapshot, "x")
    assert answer == ["VM_IS_SNAPSHOT", snapshot, "snapshot"]
    assert error_of(vms.api.VM.start, snapshot, False, False)[0] == "VM_IS_SNAPSHOT"


def test_reverting_brings_back_fields_and_disks(vms: Vms, vm: str) -> None:
    name, disk = vms.api.VM.get_name_label(vm), disk_of(vms, vm)
    snapshot = vms.api.VM.snapshot(vm, "snap")
    vms.api.VM.set_name_label(vm, "changed")
    vms.api.VM.set_VCPUs_max(vm, "2")
    vms.api.VM.set_tags(vm, ["kept"])
    vms.api.VM.revert(snapshot)
    record = vms.api.VM.get_record(vm)
    assert (record["name_label"], record["VCPUs_max"]) == (name, "1")
    assert record["tags"] == ["kept"]
    assert error_of(vms.api.VDI.get_record, disk)[0] == "HANDLE_INVALID"
    assert vms.api.VDI.get_snapshot_of(disk_of(vms, snapshot)) == disk_of(vms, vm)


def test_reverting_stops_a_running_vm(vms: Vms, vm: str) -> None:
    snapshot = vms.api.VM.snapshot(vm, "snap")
    vms.api.VM.start(vm, False, False)
    vms.api.VM.revert(snapshot)
    assert vms.state(vm) == "Halted"


def test_a_vm_that_is_gone_comes_back_under_its_uuid(vms: Vms, vm: str) -> None:
    uuid = vms.api.VM.get_uuid(vm)
    first, second = (vms.api.VM.snapshot(vm, name) for name in ("one", "two"))
    vms.api.VM.destroy(vm)
    vms.api.VM.revert(first)
    back = vms.api.VM.get_by_uuid(uuid)
    assert back != vm
    assert sorted(vms.api.VM.get_snapshots(back)) == sorted([first, second])


def test_a_checkpoint_of_a_running_vm_keeps_its_memory(vms: Vms, vm: str) -> None:
    vms.api.VM.start(vm, False, False)
    host = vms.where(vm)
    checkpoint = vms.api.VM.checkpoint(vm, "cp")
    assert (vms.state(vm), vms.where(vm)) == ("Running", host)
    assert vms.state(checkpoint) == "Suspended"
    assert vms.api.VM.get_suspend_VDI(checkpoint) != NULL
    vms.api.VM.revert(checkpoint)
    assert vms.state(vm) == "Suspended"
    vms.api.VM.resume(vm, False, False)
    assert vms.state(vm) == "Running"


def test_a_snapshot_of_a_running_vm_is_halted(vms: Vms, vm: str) -> None:
    vms.api.VM.start(vm, False, False)
    snapshot = vms.api.VM.snapshot(vm, "snap")
    assert vms.state(snapshot) == "Halted"
    assert vms.api.VM.get_snapshot_info(snapshot)["power-state-at-snapshot"] == "Running"


def test_destroying_a_snapshot_hands_its_children_on(vms: Vms, vm: str) -> None:
    first = vms.api.VM.snapshot(vm, "one")
    second = vms.api.VM.snapshot(vm, "two")
    vms.api.VM.destroy(second)
    assert vms.api.VM.get_parent(vm) == first


def test_a_clone_that_fails_leaves_nothing_behind(
    vms: Vms, vm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vms.give_disk(vm, vms.disk(vms.shared_storage()), userdevice="1")
    before = _managed_disks(vms)
    monkeypatch.setitem(HANDLERS, "VDI.clone", _refusing_every_second(HANDLERS["VDI.clone"]))
    assert error_of(vms.api.VM.clone, vm, "failed") == ["SR_BACKEND_FAILURE_46", "", "no", ""]
    assert _managed_disks(vms) == before
    assert vms.api.VM.get_by_name_label("failed") == []


def _managed_disks(vms: Vms) -> set[str]:
    return {ref for ref, vdi in vms.api.VDI.get_all_records().items() if vdi["managed"]}


def _refusing_every_second(handler: Handler) -> Handler:
    calls = itertools.count(1)

    async def clone(call: Any, *values: Any) -> Any:
        if next(calls) % 2 == 0:
            raise XapiError("SR_BACKEND_FAILURE_46", "", "no", "")
        return await handler.function(call, *values)

    return Handler(clone, handler.is_coroutine, handler.resolves_self)
