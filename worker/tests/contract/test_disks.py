"""Disks are filled sparsely, verified, and read back as they were sent."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from deploy.lab.testing import RunningLab
from worker.hypervisor.port import Busy, NoRoom, Refused, VdiSpec
from worker.tests.contract.conftest import (
    LAB_RATE,
    MIB,
    SOON,
    Place,
    Workshop,
    is_gone,
    read_back,
)

IMAGE = [(0, b"boot" * 128), (3 * MIB - 100, b"across an edge" * 30), (6 * MIB, b"\x01" * 512)]


def flat(size: int) -> bytes:
    image = bytearray(size)
    for offset, piece in IMAGE:
        image[offset : offset + len(piece)] = piece
    return bytes(image)


def test_an_imported_disk_reads_back_as_it_was_sent(place: Place, workshop: Workshop) -> None:
    vdi = workshop.vdi()
    place.hypervisor.import_vdi(vdi.uuid, IMAGE, timeout=SOON)
    expected = hashlib.sha256(flat(vdi.virtual_size_bytes)).hexdigest()
    assert hashlib.sha256(read_back(place, vdi.uuid)).hexdigest() == expected


def test_a_clone_holds_what_its_source_held(place: Place, workshop: Workshop) -> None:
    golden = workshop.vdi("golden")
    place.hypervisor.import_vdi(golden.uuid, IMAGE, timeout=SOON)
    clone = place.hypervisor.clone_vdi(
        golden.uuid, name=workshop.name("clone"), marker=workshop.marker
    )
    assert read_back(place, clone.uuid) == flat(golden.virtual_size_bytes)


def test_a_disk_on_a_hosts_own_storage_is_filled_through_that_host(
    place: Place, workshop: Workshop
) -> None:
    (host,) = place.slaves(1)
    reachable = {pbd.sr for pbd in place.hypervisor.pbds() if pbd.host == host}
    local = [s for s in place.hypervisor.srs() if s.uuid in reachable and s.type == "ext"]
    if not local:
        pytest.skip("the host has no local storage")
    vdi = workshop.vdi(sr=local[0].uuid)
    place.hypervisor.import_vdi(vdi.uuid, IMAGE, timeout=SOON)
    assert read_back(place, vdi.uuid) == flat(vdi.virtual_size_bytes)


def test_an_import_that_fails_after_its_200_is_refused(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    lab.do(lambda inside: setattr(inside.faults, "failing_imports", 1))
    vdi = workshop.vdi()
    with pytest.raises(Refused) as error:
        place.hypervisor.import_vdi(vdi.uuid, IMAGE, timeout=SOON)
    assert error.value.reason == "import_failed"


def test_a_source_that_breaks_breaks_the_import_and_the_disk_can_go(
    place: Place, workshop: Workshop
) -> None:
    def pieces() -> Iterator[tuple[int, bytes]]:
        yield 0, b"x" * 4096
        yield 2 * MIB, b"x"
        raise ValueError("not the digest that was pinned")

    vdi = workshop.vdi()
    with pytest.raises(ValueError, match="digest"):
        place.hypervisor.import_vdi(vdi.uuid, pieces(), timeout=SOON)
    place.hypervisor.destroy_vdi(vdi.uuid)
    assert is_gone(place.hypervisor.vdi, vdi.uuid)


def test_a_disk_grows(place: Place, workshop: Workshop) -> None:
    vdi = workshop.vdi(mib=8)
    place.hypervisor.resize_vdi(vdi.uuid, 16 * MIB)
    assert place.hypervisor.vdi(vdi.uuid).virtual_size_bytes == 16 * MIB


def test_a_disk_in_use_is_not_destroyed(place: Place, workshop: Workshop) -> None:
    vm = workshop.running(place.master())
    (vbd,) = place.hypervisor.vbds(vm.uuid)
    assert vbd.vdi is not None
    with pytest.raises(Busy) as error:
        place.hypervisor.destroy_vdi(vbd.vdi)
    assert error.value.reason == "disk_in_use"


def test_a_full_sr_is_no_room(place: Place, workshop: Workshop, lab: RunningLab) -> None:
    fault = ("SR_FULL", "1", "0")
    lab.do(lambda inside: inside.faults.inject("Async.VDI.create", "error", error=fault))
    with pytest.raises(NoRoom) as error:
        workshop.vdi()
    assert error.value.reason == "storage_full"


def test_a_disk_that_was_destroyed_is_gone(place: Place, workshop: Workshop) -> None:
    vdi = workshop.vdi()
    place.hypervisor.destroy_vdi(vdi.uuid)
    assert is_gone(place.hypervisor.vdi, vdi.uuid)
    assert place.hypervisor.find_vdi(vdi.name) is None


def test_marking_again_keeps_the_disks_own_name(place: Place, workshop: Workshop) -> None:
    vdi = workshop.vdi()
    place.hypervisor.set_vdi_marker(vdi.uuid, {**workshop.marker, "hosting:role": "data"})
    marker = place.hypervisor.vdi(vdi.uuid).marker
    assert (marker["hosting:role"], marker["hosting:vdi"]) == ("data", str(vdi.uuid))


def test_an_sr_that_stays_busy_is_said_to_be(
    place: Place, workshop: Workshop, lab: RunningLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.hypervisor.xapi.disks.STORAGE_WAIT", timedelta(seconds=0.3))
    sr = place.shared_sr()
    held = 10 * LAB_RATE
    lab.do(lambda x: x.faults.hold_lock(x.db.by_uuid("SR", str(sr.uuid)), held))
    spec = VdiSpec(workshop.name("late"), workshop.marker, sr.uuid, 8 * MIB)
    try:
        with pytest.raises(Busy) as error:
            place.hypervisor.ensure_vdi(spec)
    finally:
        lab.clock.advance(held)
    assert error.value.reason == "storage_slow"


def test_a_disk_that_the_pool_forgot_to_be_ours_is_ours_again(
    place: Place, workshop: Workshop
) -> None:
    vdi = workshop.vdi()
    place.hypervisor.set_vdi_marker(vdi.uuid, {})
    again = place.hypervisor.adopt_vdi(
        vdi.uuid, name=workshop.name("again"), marker=workshop.marker
    )
    assert again.uuid == vdi.uuid
    found = place.hypervisor.find_vdi(workshop.name("again"))
    assert found is not None
    assert found.marker["hosting:instance"] == str(workshop.instance)


def test_a_disk_of_somebody_elses_is_not_adopted(place: Place, workshop: Workshop) -> None:
    vdi = workshop.vdi()
    with pytest.raises(Refused):
        place.hypervisor.adopt_vdi(
            vdi.uuid, name="mine", marker={"hosting:instance": str(UUID(int=1))}
        )


def test_a_scan_changes_nothing_of_what_is_known(place: Place, workshop: Workshop) -> None:
    vdi = workshop.vdi()
    assert vdi.sr is not None
    place.hypervisor.scan_sr(vdi.sr)
    assert place.hypervisor.vdi(vdi.uuid).name == vdi.name
