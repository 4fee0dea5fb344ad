from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.tests.storing import NULL, Disks, disks_of, storage_lab
from deploy.lab.tests.vms import error_of


@pytest.fixture(scope="module")
def client() -> Iterator[Disks]:
    with storage_lab(2) as lab, disks_of(lab) as disks:
        yield disks


@pytest.fixture
def nfs(client: Disks) -> str:
    return client.shared_storage()


@pytest.fixture
def vm(client: Disks) -> Iterator[str]:
    yield client.vm()
    client.clear()


@pytest.fixture
def running(client: Disks, vm: str, nfs: str) -> tuple[str, str, str]:
    """A running VM, its disk and the VBD of it."""
    vdi = client.create(nfs)
    vbd = client.vbd(vm, vdi)
    client.api.VM.start(vm, False, False)
    client.lab.clock.advance(1.0)  # until the guest's drivers are there
    return vm, vdi, vbd


def test_a_device_that_is_taken_is_refused(client: Disks, vm: str, nfs: str) -> None:
    vdi = client.create(nfs)
    client.vbd(vm, vdi, "0")
    assert error_of(client.vbd, vm, vdi, "0") == ["DEVICE_ALREADY_EXISTS", "0"]
    assert error_of(client.vbd, vm, vdi, "hda") == ["DEVICE_ALREADY_EXISTS", "hda"]


def test_a_name_that_is_no_device_is_refused(client: Disks, vm: str, nfs: str) -> None:
    assert error_of(client.vbd, vm, client.create(nfs), "x") == ["INVALID_DEVICE", "x"]


def test_numbers_beyond_the_limit_are_accepted(client: Disks, vm: str, nfs: str) -> None:
    assert client.api.VBD.get_userdevice(client.vbd(vm, client.create(nfs), "999")) == "999"


def test_autodetect_takes_the_first_free_device(client: Disks, vm: str, nfs: str) -> None:
    client.vbd(vm, client.create(nfs), "0")
    second = client.vbd(vm, client.create(nfs), "autodetect")
    assert client.api.VBD.get_userdevice(second) == "1"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"type": "CD", "mode": "RW", "empty": True}, ["VBD_CDS_MUST_BE_READONLY"]),
        ({"empty": True}, ["VBD_NOT_REMOVABLE_MEDIA", "in constructor"]),
        ({"type": "CD", "mode": "RO"}, ["HANDLE_INVALID", "VDI", NULL]),
    ],
)
def test_only_drives_are_empty_and_read_only(
    client: Disks, vm: str, fields: dict[str, Any], error: list[str]
) -> None:
    assert error_of(lambda: client.vbd(vm, NULL, **fields)) == error


def test_a_read_only_image_is_not_given_for_writing(client: Disks, vm: str) -> None:
    iso = client.iso()
    assert error_of(client.vbd, vm, iso, "4") == ["VDI_READONLY", iso]


def test_a_disk_is_plugged_and_unplugged_once(client: Disks, running: tuple[str, ...]) -> None:
    _, _, vbd = running
    assert error_of(client.api.VBD.plug, vbd) == ["DEVICE_ALREADY_ATTACHED", vbd]
    client.api.VBD.unplug(vbd)
    assert error_of(client.api.VBD.unplug, vbd) == ["DEVICE_ALREADY_DETACHED", vbd]
    client.api.VBD.plug(vbd)
    assert client.api.VBD.get_currently_attached(vbd)


def test_a_plugged_disk_is_not_destroyed(client: Disks, running: tuple[str, ...]) -> None:
    vm, _, vbd = running
    text = f"VBD '{client.api.VBD.get_uuid(vbd)}' still attached to '{client.api.VM.get_uuid(vm)}'"
    assert error_of(client.api.VBD.destroy, vbd) == ["OPERATION_NOT_ALLOWED", text]


def test_nothing_is_plugged_into_a_halted_vm(client: Disks, vm: str, nfs: str) -> None:
    vbd = client.vbd(vm, client.create(nfs))
    assert error_of(client.api.VBD.plug, vbd) == ["VM_BAD_POWER_STATE", vm, "running", "halted"]


def test_a_read_only_disk_is_not_plugged_into_an_hvm_guest(
    client: Disks, running: tuple[str, ...], nfs: str
) -> None:
    vbd = client.vbd(running[0], client.create(nfs), "1", mode="RO")
    assert error_of(client.api.VBD.plug, vbd) == ["DISK_VBD_MUST_BE_READWRITE_FOR_HVM", vbd]


def test_a_disk_that_another_vm_has_can_be_given_but_not_started(
    client: Disks, running: tuple[str, ...]
) -> None:
    _, vdi, _ = running
    other = client.vm()
    vbd = client.vbd(other, vdi)
    assert error_of(client.api.VM.start, other, False, False) == ["VDI_IN_USE", vdi]
    assert error_of(client.api.VBD.assert_attachable, vbd) == ["VDI_IN_USE", vdi]


def test_a_sharable_disk_is_had_by_two(client: Disks, vm: str, nfs: str) -> None:
    vdi, other = client.create(nfs, sharable=True), client.vm()
    for each in (vm, other):
        client.vbd(each, vdi)
        client.api.VM.start(each, False, False)
    assert client.state(other) == "Running"


def test_the_same_disk_twice_on_one_vm_keeps_it_from_starting(
    client: Disks, vm: str, nfs: str
) -> None:
    vdi = client.create(nfs)
    client.vbd(vm, vdi, "0")
    client.vbd(vm, vdi, "1")
    assert error_of(client.api.VM.start, vm, False, False) == ["VDI_IN_USE", vdi]


def test_a_drive_takes_one_image_at_a_time(client: Disks, vm: str) -> None:
    drive, iso = client.drive(vm), client.iso()
    client.api.VBD.insert(drive, iso)
    assert error_of(client.api.VBD.insert, drive, iso) == ["VBD_NOT_EMPTY", drive]
    client.api.VBD.eject(drive)
    assert error_of(client.api.VBD.eject, drive) == ["VBD_IS_EMPTY", drive]


def test_an_image_is_changed_while_the_vm_runs(client: Disks, vm: str) -> None:
    drive = client.drive(vm)
    client.api.VM.start(vm, False, False)
    client.api.VBD.insert(drive, client.iso())
    assert not client.api.VBD.get_empty(drive)
    client.api.VBD.eject(drive)
    assert client.api.VBD.get_empty(drive)


def test_a_drive_of_an_hvm_guest_is_not_unplugged(client: Disks, vm: str) -> None:
    drive = client.drive(vm)
    client.api.VM.start(vm, False, False)
    client.lab.clock.advance(1.0)
    assert error_of(client.api.VBD.unplug, drive)[0] == "OPERATION_NOT_ALLOWED"


def test_a_disk_is_no_drive(client: Disks, vm: str, nfs: str) -> None:
    vbd = client.vbd(vm, client.create(nfs))
    assert error_of(client.api.VBD.eject, vbd) == ["VBD_NOT_REMOVABLE_MEDIA", vbd]


def test_a_disk_marked_so_is_not_unplugged(client: Disks, running: tuple[str, ...]) -> None:
    _, _, vbd = running
    client.api.VBD.set_unpluggable(vbd, False)
    assert error_of(client.api.VBD.unplug, vbd) == ["VBD_NOT_UNPLUGGABLE", vbd]


def test_the_mode_is_only_set_while_halted(client: Disks, running: tuple[str, ...]) -> None:
    vm, _, vbd = running
    error = ["VM_BAD_POWER_STATE", vm, "halted", "running"]
    assert error_of(client.api.VBD.set_mode, vbd, "RO") == error


def test_a_device_keeps_its_name_until_the_next_domain(
    client: Disks, running: tuple[str, ...]
) -> None:
    vm, _, vbd = running
    client.api.VBD.set_userdevice(vbd, "5")
    client.api.VM.pause(vm)
    client.api.VM.unpause(vm)
    assert client.api.VBD.get_device(vbd) == "xvda"
    client.api.VM.hard_reboot(vm)
    assert client.api.VBD.get_device(vbd) == "xvdf"


def test_one_operation_on_a_disk_after_the_other(client: Disks, running: tuple[str, ...]) -> None:
    _, vdi, vbd = running
    first = client.api.Async.VBD.unplug(vbd)
    client.api.VDI.snapshot(vdi, {})
    client.lab.clock.advance(1.0)
    assert client.api.task.get_status(first) == "success"
    assert client.api.VBD.get_current_operations(vbd) == {}


def test_allowed_operations_follow_the_vm(client: Disks, running: tuple[str, ...]) -> None:
    vm, _, vbd = running
    allowed = {"attach", "unpause", "unplug", "unplug_force", "pause"}
    assert set(client.api.VBD.get_allowed_operations(vbd)) == allowed
    client.api.VM.hard_shutdown(vm)
    assert set(client.api.VBD.get_allowed_operations(vbd)) == {"attach"}
