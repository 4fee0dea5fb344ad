from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.samples import GIB, MIB
from deploy.lab.storage import CHAIN_LIMIT, HEADER
from deploy.lab.tests.storing import NULL, Disks, disks_of, storage_lab
from deploy.lab.tests.vms import error_of

SIZE_ERROR = "VDI Invalid size [opterr=VDI size must be between 1 MB and 67108860 MB]"


@pytest.fixture(scope="module")
def client() -> Iterator[Disks]:
    with storage_lab(2) as lab, disks_of(lab) as disks:
        yield disks


@pytest.fixture
def nfs(client: Disks) -> str:
    return client.shared_storage()


@pytest.fixture
def vdi(client: Disks, nfs: str) -> str:
    return client.create(nfs, other_config={"k": "v"}, tags=["t"], xenstore_data={"x": "y"})


@pytest.fixture
def attached(client: Disks, vdi: str) -> Iterator[tuple[str, str]]:
    """A disk that a running VM writes, and the VM."""
    vm = client.vm()
    client.vbd(vm, vdi)
    client.api.VM.start(vm, False, False)
    yield vdi, vm
    client.clear()


# --- sizes and space


@pytest.mark.parametrize(
    ("asked", "got"), [(1, 2 * MIB), (2 * MIB, 2 * MIB), (GIB + 1, GIB + 2 * MIB)]
)
def test_sizes_are_rounded_up_to_two_mebibytes(
    client: Disks, nfs: str, asked: int, got: int
) -> None:
    assert client.api.VDI.get_virtual_size(client.create(nfs, asked)) == str(got)


@pytest.mark.parametrize("size", [0, -1, 90 * 1024**4])
def test_impossible_sizes_are_refused_by_the_backend(client: Disks, nfs: str, size: int) -> None:
    assert error_of(client.create, nfs, size) == ["SR_BACKEND_FAILURE_79", "", SIZE_ERROR, ""]


def test_a_library_of_images_makes_no_disks(client: Disks) -> None:
    iso = client.storage("iso")
    assert error_of(client.create, iso) == ["SR_OPERATION_NOT_SUPPORTED", iso]


def test_a_disk_grows_but_does_not_shrink(client: Disks, vdi: str) -> None:
    client.api.VDI.resize(vdi, str(2 * GIB))
    assert client.api.VDI.get_virtual_size(vdi) == str(2 * GIB)
    shrinking = "VDI Invalid size [opterr=shrinking not allowed]"
    error = ["SR_BACKEND_FAILURE_79", "", shrinking, ""]
    assert error_of(client.api.VDI.resize, vdi, str(MIB)) == error


def test_the_sr_accounts_for_its_disks(client: Disks, nfs: str) -> None:
    def figures() -> tuple[int, int]:
        sr = client.api.SR.get_record(nfs)
        return int(sr["virtual_allocation"]), int(sr["physical_utilisation"])

    allocated, used = figures()
    vdi = client.create(nfs, 16 * MIB)
    assert figures() == (allocated + 16 * MIB, used + HEADER)
    client.api.VDI.destroy(vdi)
    assert figures() == (allocated, used)


def test_a_full_sr_takes_no_more_disks() -> None:
    with storage_lab(1, shared_storage=5 * HEADER) as lab, disks_of(lab) as small:
        nfs = small.shared_storage()
        for _ in range(5):
            small.create(nfs)
        assert error_of(small.create, nfs)[0] == "SR_BACKEND_FAILURE_44"


def test_a_thick_sr_is_full_when_its_disks_sizes_are(client: Disks) -> None:
    host = client.hosts["h1"]
    lvm = client.api.SR.create(host, {}, str(100 * MIB), "thick", "", "lvm", "user", False, {})
    vdi = client.create(lvm, 60 * MIB)
    assert error_of(client.create, lvm, 60 * MIB)[0] == "SR_BACKEND_FAILURE_44"
    assert error_of(client.api.VDI.clone, vdi, {})[0] == "SR_BACKEND_FAILURE_44"


# --- clones and snapshots


def test_a_clone_carries_the_names_and_keys_of_its_source(client: Disks, vdi: str) -> None:
    clone = client.api.VDI.get_record(client.api.VDI.clone(vdi, {}))
    source = client.api.VDI.get_record(vdi)
    carried = ("name_label", "other_config", "tags", "xenstore_data", "virtual_size", "SR")
    assert {name: clone[name] for name in carried} == {name: source[name] for name in carried}
    assert clone["is_a_snapshot"] is False
    assert set(clone["sm_config"]) == {"vhd-parent"}


def test_a_snapshot_knows_its_disk(client: Disks, vdi: str) -> None:
    snapshot = client.api.VDI.snapshot(vdi, {})
    record = client.api.VDI.get_record(snapshot)
    assert (record["is_a_snapshot"], record["snapshot_of"]) == (True, vdi)
    assert client.api.VDI.get_snapshots(vdi) == [snapshot]


def test_a_snapshot_outlives_its_disk(client: Disks, vdi: str) -> None:
    client.write(vdi, 0, b"then")
    snapshot = client.api.VDI.snapshot(vdi, {})
    client.write(vdi, 0, b"now!")
    client.api.VDI.destroy(vdi)
    assert client.read(snapshot, 0, 4) == b"then"


def test_clones_of_an_untouched_image_make_a_flat_tree(client: Disks, vdi: str) -> None:
    client.write(vdi, 0, b"golden")
    clones = [client.api.VDI.clone(vdi, {}) for _ in range(CHAIN_LIMIT + 5)]
    parents = {client.api.VDI.get_sm_config(clone)["vhd-parent"] for clone in clones}
    assert len(parents) == 1
    assert client.read(clones[-1], 0, 6) == b"golden"


def test_a_chain_of_snapshots_has_a_greatest_length(client: Disks, vdi: str) -> None:
    for number in range(CHAIN_LIMIT - 1):
        client.write(vdi, 0, bytes([number + 1]))
        client.api.VDI.snapshot(vdi, {})
    client.write(vdi, 0, b"x")
    assert error_of(client.api.VDI.snapshot, vdi, {})[0] == "SR_BACKEND_FAILURE_109"


def test_hidden_bases_are_shown_unmanaged_and_merged_when_nobody_needs_them(
    client: Disks, nfs: str
) -> None:
    vdi = client.create(nfs)
    client.write(vdi, 0, b"x")
    clone = client.api.VDI.clone(vdi, {})
    parent = client.api.VDI.get_sm_config(clone)["vhd-parent"]
    base = client.api.VDI.get_record(client.api.VDI.get_by_uuid(parent))
    assert (base["managed"], base["name_label"]) == (False, "base copy")
    client.api.VDI.destroy(clone)
    client.lab.clock.advance(120.0)
    assert error_of(client.api.VDI.get_by_uuid, parent)[0] == "UUID_INVALID"
    assert client.read(vdi, 0, 1) == b"x"


def test_a_copy_shares_nothing_and_may_go_to_another_sr(client: Disks, vdi: str) -> None:
    client.write(vdi, MIB, b"data")
    copy = client.api.VDI.copy(vdi, client.local_storage("h1"))
    client.api.VDI.destroy(vdi)
    assert client.read(copy, MIB, 4) == b"data"
    assert client.api.VDI.get_SR(copy) == client.local_storage("h1")


def test_a_copy_does_not_fit_into_a_smaller_disk(client: Disks, nfs: str, vdi: str) -> None:
    small = client.create(nfs, 2 * MIB)
    error = ["VDI_TOO_SMALL", small, str(16 * MIB)]
    assert error_of(client.api.VDI.copy, vdi, nfs, NULL, small) == error


# --- what is allowed


@pytest.mark.parametrize("operation", ["destroy", "forget", "update"])
def test_a_disk_in_use_is_left_alone(
    client: Disks, attached: tuple[str, str], operation: str
) -> None:
    vdi, _ = attached
    assert error_of(getattr(client.api.VDI, operation), vdi) == ["VDI_IN_USE", vdi, operation]


def test_a_disk_in_use_is_neither_resized_nor_copied(
    client: Disks, attached: tuple[str, str], nfs: str
) -> None:
    vdi, _ = attached
    assert error_of(client.api.VDI.resize, vdi, str(GIB)) == ["VDI_IN_USE", vdi, "resize"]
    assert error_of(client.api.VDI.copy, vdi, nfs) == ["VDI_IN_USE", vdi, "copy"]


def test_a_disk_in_use_is_snapshotted_and_cloned(client: Disks, attached: tuple[str, str]) -> None:
    vdi, _ = attached
    client.api.VDI.snapshot(vdi, {})
    client.api.VDI.clone(vdi, {})
    assert set(client.api.VDI.get_allowed_operations(vdi)) == {"clone", "snapshot"}


def test_destroying_a_disk_takes_the_vbds_of_halted_vms_along(client: Disks, vdi: str) -> None:
    vm = client.vm()
    vbd = client.vbd(vm, vdi)
    client.api.VDI.destroy(vdi)
    assert error_of(client.api.VBD.get_uuid, vbd) == ["HANDLE_INVALID", "VBD", vbd]


@pytest.mark.parametrize("field", ["read_only", "sharable", "managed"])
def test_what_only_backends_may_write_is_refused(client: Disks, vdi: str, field: str) -> None:
    setter = getattr(client.api.VDI, f"set_{field}")
    assert error_of(setter, vdi, True) == ["PERMISSION_DENIED", ""]


def test_a_disk_without_a_vm_does_not_migrate(client: Disks, vdi: str) -> None:
    call = client.api.VDI.pool_migrate
    target = client.local_storage("h1")
    assert error_of(call, vdi, target, {}) == ["VDI_NEEDS_VM_FOR_MIGRATE", vdi]


def test_a_forgotten_disk_is_found_again_by_a_scan(client: Disks, vdi: str, nfs: str) -> None:
    client.write(vdi, 0, b"kept")
    uuid = client.api.VDI.get_uuid(vdi)
    client.api.VDI.forget(vdi)
    assert error_of(client.api.VDI.get_by_uuid, uuid)[0] == "UUID_INVALID"
    client.api.SR.scan(nfs)
    assert client.read(client.api.VDI.get_by_uuid(uuid), 0, 4) == b"kept"


# --- booting


def test_a_disk_that_resets_on_boot_loses_what_was_written(client: Disks, vdi: str) -> None:
    client.write(vdi, 0, b"image")
    client.api.VDI.set_on_boot(vdi, "reset")
    vm = client.vm()
    client.vbd(vm, vdi)
    client.api.VM.start(vm, False, False)
    client.write(vdi, 0, b"mess!")
    client.api.VM.hard_shutdown(vm)
    client.api.VM.start(vm, False, False)
    assert client.read(vdi, 0, 5) == b"image"
    error = ["VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION"]
    assert error_of(client.api.VM.snapshot, vm, "s") == error
    client.clear()


def test_operations_on_one_sr_take_turns(client: Disks, vdi: str) -> None:
    tasks = [client.api.Async.VDI.clone(vdi, {}) for _ in range(5)]
    busy = client.api.SR.get_current_operations(client.shared_storage())
    assert len(busy) <= 1
    for _ in range(60):
        client.lab.clock.advance(1.0)
        statuses = {client.api.task.get_status(task) for task in tasks}
        if statuses == {"success"}:
            break
    assert statuses == {"success"}


def test_a_held_lock_makes_everything_on_the_sr_wait(client: Disks, vdi: str, nfs: str) -> None:
    def hold() -> None:
        client.lab.do(lambda lab: lab.faults.hold_lock(lab.db.get("SR", nfs), 60.0))

    hold()
    before = client.lab.clock.now()
    client.lab.clock.set_rate(400.0)
    client.api.VDI.clone(vdi, {})
    client.lab.clock.set_rate(40.0)
    assert client.lab.clock.now() - before >= 60.0
