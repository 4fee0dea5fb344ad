"""What workflows do to blanks and with them, each "find, else do".

A blank boots as VMs of its pool do, with one word more for its kernel. It has what no tenant's is: an empty scratch
disk, on which its guest makes a file system, and an interface on a network that leads nowhere. Its guest says that it
waits for the rest, and then it is paused. XAPI plugs devices into VMs that run and into no others (xapi_vbd_helpers.ml,
xapi_vif_helpers.ml), so an instance that takes it lets it go on first. The root disk, which the guest waits for, is
plugged last: until then nothing of anybody's can run in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

from hosting import labels
from hosting.compute.models import Instance
from hosting.warm.models import Blank
from worker import machines, nics
from worker.hypervisor.port import (
    BootDirect,
    Busy,
    Gone,
    Hypervisor,
    NoRoom,
    Refused,
    UntranslatedFailure,
    VbdSpec,
    VdiSpec,
    VmRecord,
    VmSpec,
)
from worker.workflow import Facts

ARGUMENT = "bulkhead.blank"
SAYS = "blank"
"""The key below vm-data/ that its guest sets to "1" when it waits."""

_FIRST, _LAST = "config", "root"


class NotWarm(Exception):
    """It cannot become the instance's VM, and nothing of the instance's has run in it, nor will."""


BlankFacts: TypeAlias = Mapping[str, Any]
"""What steps must know of the one that was taken: `uuid`, and `vm` and scratch `disk` as XAPI names them."""


def facts_of(blank: Blank | None) -> BlankFacts | None:
    if blank is None:
        return None
    return {"uuid": str(blank.pk), "vm": str(blank.vm_uuid), "disk": str(blank.disk_uuid)}


def boot_of(blank: Blank) -> BootDirect:
    """Raises Refused where its pool boots VMs from their disks: then it cannot be made."""
    boot = machines.boot_of(blank.pool)
    if not isinstance(boot, BootDirect):
        raise Refused("boots_from_disk")
    return replace(boot, args=f"{boot.args} {ARGUMENT}".strip())


def build_disk(hypervisor: Hypervisor, blank: Blank) -> UUID:
    """Its scratch disk."""
    sr, marker = blank.sr_uuid, {labels.BLANK: str(blank.pk)}
    if sr is None:
        raise Refused("no_default_sr")
    spec = VdiSpec(labels.blank_disk_name(blank.pk), marker, sr, blank.disk_bytes)
    (made,) = hypervisor.ensure_vdis([spec])
    return made.uuid


def build_vm(hypervisor: Hypervisor, blank: Blank, disk: UUID) -> VmRecord:
    """Its VM, with its disk on it, and its interface where instances of its pool have one."""
    vm = hypervisor.ensure_vm(
        VmSpec(
            name=labels.blank_name(blank.pk),
            marker={labels.BLANK: str(blank.pk)},
            memory_bytes=blank.memory_bytes,
            vcpus=blank.vcpus,
            boot=boot_of(blank),
        )
    )
    hypervisor.ensure_vbd(VbdSpec(vm.uuid, disk, machines.ROLES["scratch"]))
    if blank.mac:
        nics.park_nic(hypervisor, vm.uuid, blank.host_id, blank.mac)
    return vm


def waits(vm: VmRecord) -> bool:
    """Whether its guest says that it waits for its devices."""
    said = vm.guest.other if vm.guest is not None else {}
    return "1" in (vm.vm_data.get(SAYS), said.get(SAYS))


def unmake(hypervisor: Hypervisor, blank: Blank) -> None:
    """Nothing of it is left, running or not, by whatever name it goes: one that was given up may have been renamed."""
    if blank.vm_uuid is not None and blank.disk_uuid is not None:
        _destroy(hypervisor, blank.vm_uuid, blank.disk_uuid)
    machines.unmake_named(hypervisor, labels.blank_name(blank.pk))
    machines.unmake_disk_named(hypervisor, labels.blank_disk_name(blank.pk))


def unmake_taken(hypervisor: Hypervisor, facts: Facts) -> None:
    """The blank that was taken, by whatever name it goes; there may have been none."""
    blank = facts.get("blank")
    if blank is not None:
        _destroy(hypervisor, UUID(blank["vm"]), UUID(blank["disk"]))


def _destroy(hypervisor: Hypervisor, vm: UUID, disk: UUID) -> None:
    hypervisor.destroy_vm(vm)
    hypervisor.destroy_vdi(disk)


def wake(hypervisor: Hypervisor, instance: Instance, facts: Facts) -> bool:
    """The blank of `facts` becomes the instance's VM, with all its devices, and runs.

    False: it has ended since an earlier attempt let it go on, so it may have run: it must not be run again. Raises
    NotWarm; nics.NetworkLost; and what the pool says when it cannot be known yet whether anything runs in it.
    """
    uuid, disk = UUID(facts["blank"]["vm"]), UUID(facts["blank"]["disk"])
    try:
        before = _adopt(hypervisor, instance, uuid, disk)
    except (Gone, Busy, Refused, NoRoom, UntranslatedFailure) as no:
        raise NotWarm from no
    if before.power_state == "Halted" and before.name == machines.name_of(instance):
        return False
    stood_still = before.power_state != "Running"
    try:
        if stood_still:
            hypervisor.unpause(uuid)
        _plug_devices(hypervisor, uuid, facts)
    except (Gone, Busy, Refused, NoRoom, UntranslatedFailure) as no:
        if (no.may_have_happened or not stood_still) and _may_run(hypervisor, uuid, no):
            raise
        raise NotWarm from no
    return True


def _adopt(hypervisor: Hypervisor, instance: Instance, vm: UUID, disk: UUID) -> VmRecord:
    boot = machines.boot_of(instance.pool)
    if not isinstance(boot, BootDirect):
        raise Refused("boots_from_disk")
    name, marker = machines.name_of(instance), machines.marker_of(instance)
    hypervisor.adopt_vdi(disk, name=labels.disk_name(instance.pk, "scratch"), marker=marker)
    return hypervisor.adopt_vm(vm, name=name, marker=marker, boot=boot)


def _plug_devices(hypervisor: Hypervisor, vm: UUID, facts: Facts) -> None:
    _plug_disk(hypervisor, vm, _FIRST, facts)
    if "nic" in facts:
        nics.build_nic(hypervisor, vm, facts["nic"], plug=True)
    _plug_disk(hypervisor, vm, _LAST, facts)


def _plug_disk(hypervisor: Hypervisor, vm: UUID, role: str, facts: Facts) -> None:
    disk, device = UUID(facts["disks"][role]), machines.ROLES[role]
    hypervisor.ensure_vbd(VbdSpec(vm, disk, device, bootable=role == "root"), plug=True)


def _may_run(hypervisor: Hypervisor, vm: UUID, no: Exception) -> bool:
    """Whether it has its root disk, though not all went well, or may have it any moment.

    Plugging that is the last call of all. One that was refused has not done it, but an attempt before may have.
    """
    roots = (vbd for vbd in hypervisor.vbds(vm) if vbd.device == machines.ROLES[_LAST])
    is_plugged = any(vbd.currently_attached for vbd in roots)
    is_being_plugged = isinstance(no, Busy) and no.reason == "in_progress"
    return is_plugged or is_being_plugged or hypervisor.vm(vm).power_state != "Running"
