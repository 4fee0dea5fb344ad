"""Find, else do: an attempt after a lost reply finds what the first one made."""

from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from deploy.lab.testing import RunningLab
from worker.hypervisor.port import (
    BootDirect,
    BootHvm,
    CloneSpec,
    Gone,
    NoRoom,
    Refused,
    Unreachable,
    VbdSpec,
    VdiSpec,
    VifSpec,
    VmSpec,
)
from worker.tests.contract.conftest import MIB, Place, Workshop, is_gone, read_back


def test_a_vm_is_made_halted_and_with_its_marker(place: Place, workshop: Workshop) -> None:
    made = workshop.vm(vm_data={"spec": "1"}, description="d")
    assert (made.power_state, made.marker, made.vm_data) == (
        "Halted",
        workshop.marker,
        {"spec": "1"},
    )
    assert place.hypervisor.vm(made.uuid) == made


def test_a_vm_that_is_there_is_found_and_not_made_again(place: Place, workshop: Workshop) -> None:
    made = workshop.vm()
    assert workshop.vm().uuid == made.uuid
    assert place.hypervisor.find_vm(workshop.name("vm")) == made


def test_a_vm_boots_by_uefi_when_asked(workshop: Workshop) -> None:
    assert workshop.vm(boot=BootHvm("uefi")).power_state == "Halted"


def test_a_lost_reply_does_not_make_a_second_vm(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    lab.do(lambda inside: inside.faults.inject("VM.create", "drop_after"))
    with pytest.raises(Unreachable) as error:
        workshop.vm()
    assert error.value.may_have_happened
    found = workshop.vm()
    named = [vm for vm in place.hypervisor.vms() if vm.name == found.name]
    assert named == [found]


def test_a_call_that_never_arrived_is_made_by_the_next_attempt(
    workshop: Workshop, lab: RunningLab
) -> None:
    lab.do(lambda inside: inside.faults.inject("VM.create", "drop_before"))
    with pytest.raises(Unreachable):
        workshop.vm()
    assert workshop.vm().power_state == "Halted"


def test_a_lost_reply_does_not_make_a_second_disk(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    lab.do(lambda inside: inside.faults.inject("Async.VDI.create", "drop_after"))
    found = workshop.vdi()  # settled by looking, in the same call
    assert workshop.vdi().uuid == found.uuid
    named = [vdi for vdi in place.hypervisor.vdis() if vdi.name == found.name]
    assert named == [found]


def test_the_same_name_on_another_sr_is_another_disk(place: Place, workshop: Workshop) -> None:
    local = [s for s in place.hypervisor.srs() if not s.shared and s.type == "ext"]
    if not local:
        pytest.skip("the pool has no local storage")
    here, there = workshop.vdi("image"), workshop.vdi("image", sr=local[0].uuid)
    assert here.uuid != there.uuid
    assert place.hypervisor.find_vdi(here.name, sr=local[0].uuid) == there


def test_a_disk_names_itself(place: Place, workshop: Workshop) -> None:
    made = workshop.vdi()
    assert made.marker["hosting:vdi"] == str(made.uuid)
    assert place.hypervisor.vdi(made.uuid) == made


def test_a_disk_has_at_least_the_size_asked_for(workshop: Workshop) -> None:
    sr = workshop.place.shared_sr().uuid
    spec = VdiSpec(workshop.name("odd"), workshop.marker, sr, 3 * MIB + 512)
    assert workshop.place.hypervisor.ensure_vdi(spec).virtual_size_bytes >= 3 * MIB + 512


def test_a_clone_gets_its_own_name_and_marker(place: Place, workshop: Workshop) -> None:
    golden = workshop.vdi("golden")
    marker = {**workshop.marker, "hosting:role": "root"}
    clone = place.hypervisor.clone_vdi(golden.uuid, name=workshop.name("root"), marker=marker)
    assert clone.uuid != golden.uuid
    assert clone.marker == {**marker, "hosting:vdi": str(clone.uuid)}
    again = place.hypervisor.clone_vdi(golden.uuid, name=workshop.name("root"), marker=marker)
    assert again == place.hypervisor.vdi(clone.uuid)


def test_disks_are_made_side_by_side_and_all_found_again(place: Place, workshop: Workshop) -> None:
    golden = workshop.vdi("golden")
    sr = place.shared_sr().uuid
    specs: list[CloneSpec | VdiSpec] = [
        CloneSpec(workshop.name("root"), workshop.marker, golden.uuid),
        VdiSpec(workshop.name("scratch"), workshop.marker, sr, 16 * MIB),
        VdiSpec(workshop.name("config"), workshop.marker, sr, 8 * MIB),
    ]
    made = place.hypervisor.ensure_vdis(specs)
    assert [vdi.name for vdi in made] == [spec.name for spec in specs]
    assert [vdi.virtual_size_bytes // MIB for vdi in made[1:]] == [16, 8]
    assert {vdi.marker["hosting:vdi"] for vdi in made} == {str(vdi.uuid) for vdi in made}
    again = place.hypervisor.ensure_vdis(list(reversed(specs)))
    assert [vdi.uuid for vdi in again] == [vdi.uuid for vdi in reversed(made)]


def test_of_disks_made_side_by_side_one_that_fails_leaves_the_others_whole(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    golden = workshop.vdi("golden")
    root = CloneSpec(workshop.name("root"), workshop.marker, golden.uuid)
    full = VdiSpec(workshop.name("full"), workshop.marker, place.shared_sr().uuid, 8 * MIB)
    fault = ("SR_FULL", "1", "0")
    lab.do(lambda inside: inside.faults.inject("Async.VDI.create", "error", error=fault))
    with pytest.raises(NoRoom):
        place.hypervisor.ensure_vdis([full, root])
    found = place.hypervisor.find_vdi(root.name)
    assert found is not None
    assert not found.is_unfinished_clone
    assert place.hypervisor.find_vdi(full.name) is None


def test_a_disk_starts_with_what_it_was_made_for_and_so_does_one_that_is_found(
    place: Place, workshop: Workshop
) -> None:
    sr = place.shared_sr().uuid
    before = VdiSpec(workshop.name("config"), workshop.marker, sr, 8 * MIB, content=b"before")
    beside = VdiSpec(workshop.name("scratch"), workshop.marker, sr, 8 * MIB)
    made, empty = place.hypervisor.ensure_vdis([before, beside])
    assert read_back(place, made.uuid) == b"before".ljust(made.virtual_size_bytes, b"\0")
    assert read_back(place, empty.uuid) == bytes(empty.virtual_size_bytes)
    again, _ = place.hypervisor.ensure_vdis([replace(before, content=b"now"), beside])
    assert again.uuid == made.uuid
    assert read_back(place, made.uuid).rstrip(b"\0") == b"now"


def test_a_disk_that_could_not_be_filled_is_refused_and_those_beside_it_are_whole(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    golden = workshop.vdi("golden")
    root = CloneSpec(workshop.name("root"), workshop.marker, golden.uuid)
    sr = place.shared_sr().uuid
    config = VdiSpec(workshop.name("config"), workshop.marker, sr, 8 * MIB, content=b"{}")
    before = lab.do(lambda inside: inside.db.all("task"))
    lab.do(lambda inside: setattr(inside.faults, "failing_imports", 1))
    with pytest.raises(Refused) as error:
        place.hypervisor.ensure_vdis([root, config])
    assert error.value.reason == "import_failed"
    found = place.hypervisor.find_vdi(root.name)
    assert found is not None
    assert not found.is_unfinished_clone
    assert lab.do(lambda inside: inside.db.all("task")) == before


def test_a_clone_whose_marking_failed_is_finished_by_the_next_attempt(
    place: Place, workshop: Workshop, lab: RunningLab
) -> None:
    golden = workshop.vdi("golden")
    lab.do(lambda inside: inside.faults.inject("VDI.set_other_config", "drop_before"))
    name = workshop.name("root")
    with pytest.raises(Unreachable):
        place.hypervisor.clone_vdi(golden.uuid, name=name, marker=workshop.marker)
    (half,) = [vdi for vdi in place.hypervisor.vdis() if vdi.name == name]
    assert half.is_unfinished_clone
    assert place.hypervisor.find_vdi(name) is None
    done = place.hypervisor.clone_vdi(golden.uuid, name=name, marker=workshop.marker)
    assert (done.uuid, done.is_unfinished_clone) == (half.uuid, False)


def test_an_object_without_our_marker_is_never_destroyed(place: Place) -> None:
    foreign = next(vm for vm in place.hypervisor.vms() if not vm.marker)
    with pytest.raises(Refused) as error:
        place.hypervisor.destroy_vm(foreign.uuid)
    assert error.value.reason == "not_ours"


def test_destroying_what_is_gone_is_done(place: Place, workshop: Workshop) -> None:
    vm, vdi = workshop.vm(), workshop.vdi()
    for _ in range(2):
        place.hypervisor.destroy_vm(vm.uuid)
        place.hypervisor.destroy_vdi(vdi.uuid)
    assert is_gone(place.hypervisor.vm, vm.uuid)
    assert is_gone(place.hypervisor.vdi, vdi.uuid)


def test_destroying_a_vm_leaves_its_disk(place: Place, workshop: Workshop) -> None:
    vm = workshop.vm_with_disk()
    (vbd,) = place.hypervisor.vbds(vm.uuid)
    assert vbd.vdi is not None
    place.hypervisor.destroy_vm(vm.uuid)
    assert place.hypervisor.vdi(vbd.vdi).uuid == vbd.vdi


def test_a_disk_is_attached_once_however_often_it_is_asked_for(
    place: Place, workshop: Workshop
) -> None:
    vm, vdi = workshop.vm(), workshop.vdi()
    spec = VbdSpec(vm.uuid, vdi.uuid, 0, bootable=True)
    place.hypervisor.ensure_vbd(spec)
    place.hypervisor.ensure_vbd(spec)
    (made,) = place.hypervisor.vbds(vm.uuid)
    assert (made.vm, made.vdi, made.device, made.mode) == (vm.uuid, vdi.uuid, 0, "RW")


def test_another_disk_on_the_same_device_is_a_conflict(place: Place, workshop: Workshop) -> None:
    vm = workshop.vm()
    place.hypervisor.ensure_vbd(VbdSpec(vm.uuid, workshop.vdi("one").uuid, 0))
    with pytest.raises(Refused) as error:
        place.hypervisor.ensure_vbd(VbdSpec(vm.uuid, workshop.vdi("two").uuid, 0))
    assert error.value.reason == "conflict"


def test_a_vif_is_made_locked_and_found_again(place: Place, workshop: Workshop) -> None:
    vm, network = workshop.vm(), place.hypervisor.networks()[0]
    spec = VifSpec(
        vm.uuid, network.uuid, 0, "02:00:5e:00:53:01", ipv4_allowed=("192.0.2.7", "192.0.2.5")
    )
    place.hypervisor.ensure_vif(spec)
    (made,) = place.hypervisor.vifs(vm.uuid)
    assert (made.locking_mode, made.ipv4_allowed) == ("locked", ("192.0.2.5", "192.0.2.7"))
    assert (made.mac, made.network) == ("02:00:5e:00:53:01", network.uuid)
    place.hypervisor.ensure_vif(spec)
    assert place.hypervisor.vifs(vm.uuid) == (made,)


def test_an_adopted_vif_locks_as_it_is_asked_now(place: Place, workshop: Workshop) -> None:
    vm, network = workshop.vm(), place.hypervisor.networks()[0]
    mac = "02:00:5e:00:53:02"
    place.hypervisor.ensure_vif(VifSpec(vm.uuid, network.uuid, 0, mac, locking_mode="unlocked"))
    locked = VifSpec(vm.uuid, network.uuid, 0, mac, ipv4_allowed=("192.0.2.9",))
    place.hypervisor.ensure_vif(locked)
    (vif,) = place.hypervisor.vifs(vm.uuid)
    assert (vif.locking_mode, vif.ipv4_allowed) == ("locked", ("192.0.2.9",))


def test_a_vif_is_put_on_the_network_that_is_asked_for_now(
    place: Place, workshop: Workshop
) -> None:
    vm, (one, other) = workshop.vm(), place.hypervisor.networks()[:2]
    mac = "02:00:5e:00:53:04"
    place.hypervisor.ensure_vif(VifSpec(vm.uuid, one.uuid, 0, mac, locking_mode="disabled"))
    place.hypervisor.ensure_vif(VifSpec(vm.uuid, other.uuid, 0, mac, ipv4_allowed=("192.0.2.9",)))
    (vif,) = place.hypervisor.vifs(vm.uuid)
    assert (vif.network, vif.locking_mode) == (other.uuid, "locked")
    assert vif.ipv4_allowed == ("192.0.2.9",)


def test_a_vif_of_another_mac_on_the_same_device_is_a_conflict(
    place: Place, workshop: Workshop
) -> None:
    vm, network = workshop.vm(), place.hypervisor.networks()[0]
    place.hypervisor.ensure_vif(VifSpec(vm.uuid, network.uuid, 0, "02:00:5e:00:53:05"))
    with pytest.raises(Refused) as error:
        place.hypervisor.ensure_vif(VifSpec(vm.uuid, network.uuid, 0, "02:00:5e:00:53:06"))
    assert error.value.reason == "conflict"


def test_locking_can_be_changed(place: Place, workshop: Workshop) -> None:
    vm, network = workshop.vm(), place.hypervisor.networks()[0]
    place.hypervisor.ensure_vif(VifSpec(vm.uuid, network.uuid, 0, "02:00:5e:00:53:03"))
    (vif,) = place.hypervisor.vifs(vm.uuid)
    place.hypervisor.set_vif_locking(vif.uuid, "locked", ipv4=("192.0.2.8",), ipv6=("2001:db8::8",))
    (changed,) = place.hypervisor.vifs(vm.uuid)
    assert (changed.ipv4_allowed, changed.ipv6_allowed) == (("192.0.2.8",), ("2001:db8::8",))
    place.hypervisor.set_vif_locking(vif.uuid, "disabled", ipv4=())
    assert place.hypervisor.vifs(vm.uuid)[0].locking_mode == "disabled"


def test_markers_and_data_are_replaced_and_others_keys_kept(
    place: Place, workshop: Workshop
) -> None:
    vm = workshop.vm(vm_data={"old": "1"})
    marker = {**workshop.marker, "hosting:role": "web"}
    place.hypervisor.set_vm_marker(vm.uuid, marker)
    place.hypervisor.set_vm_data(vm.uuid, {"new": "2"})
    changed = place.hypervisor.vm(vm.uuid)
    assert (changed.marker, changed.vm_data) == (marker, {"new": "2"})


def test_what_is_not_there_is_gone(place: Place) -> None:
    for look in (place.hypervisor.vm, place.hypervisor.vdi, place.hypervisor.host):
        with pytest.raises(Gone):
            look(uuid4())
    assert place.hypervisor.find_vm("no-such-name") is None
    assert place.hypervisor.find_vdi("no-such-name") is None


def test_memory_and_vcpus_are_what_was_asked_for(place: Place, workshop: Workshop) -> None:
    spec = VmSpec(workshop.name("big"), workshop.marker, 512 * MIB, 2, vcpu_weight=512)
    made = place.hypervisor.ensure_vm(spec)
    assert (made.memory_bytes, made.vcpus) == (512 * MIB, 2)


def test_a_vm_of_ours_is_adopted_under_another_name(place: Place, workshop: Workshop) -> None:
    made = workshop.vm("blank", boot=BootDirect("/boot/guest/vmlinuz", args="quiet bulkhead.blank"))
    marker = {**workshop.marker, "hosting:role": "adopted"}
    boot = BootDirect("/boot/guest/vmlinuz", args="quiet")
    adopt = partial(
        place.hypervisor.adopt_vm, made.uuid, name=workshop.name("own"), marker=marker, boot=boot
    )
    assert adopt().name == workshop.name("blank")
    now = place.hypervisor.find_vm(workshop.name("own"))
    assert now is not None
    assert (now.uuid, now.marker) == (made.uuid, marker)
    assert place.hypervisor.find_vm(workshop.name("blank")) is None
    assert adopt().name == workshop.name("own")


def test_a_vm_that_is_nobodys_of_ours_is_not_adopted(place: Place, workshop: Workshop) -> None:
    foreign = next(vm for vm in place.hypervisor.vms() if not vm.marker)
    with pytest.raises(Refused) as error:
        place.hypervisor.adopt_vm(
            foreign.uuid, name=workshop.name(), marker=workshop.marker, boot=BootDirect("/k")
        )
    assert error.value.reason == "not_ours"
