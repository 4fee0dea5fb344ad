"""What workflows do to an instance's VM and disks, each "find, else do". No rows are read here but the
instance's own, as the step was given it.

An instance has three disks: root (a clone of the image's golden disk), config (what to run, as JSON) and
scratch (empty, as large as asked for). All carry its uuid in their marker and their names.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from django.db.models.functions import Now
from django.utils import timezone

from hosting import labels
from hosting.compute.models import Instance
from hosting.fleet.choices import BootMode
from hosting.fleet.models import Pool
from worker import nics
from worker.hypervisor.port import (
    BootDirect,
    BootHvm,
    CloneSpec,
    Gone,
    Hypervisor,
    Marker,
    Refused,
    TaskHandle,
    VbdSpec,
    VdiSpec,
    VmRecord,
    VmSpec,
)
from worker.nics import Nic
from worker.workflow import Facts, Wait

MIB = 2**20
CONFIG_BYTES = 2 * MIB
# The devices that the guest finds them at: xvda, xvdb, xvdc.
ROLES = {"root": 0, "config": 1, "scratch": 2}
GRACE = timedelta(seconds=30)
SOON = timedelta(seconds=1)
# Its pool may have lost a VM's record with its master's, and the VM runs on (XAPI.md 6.5).
LOST = Wait(
    timedelta(seconds=30),
    "The pool does not know its VM any more, which may run all the same: a person must look.",
)
IMPORT_FAILED = "import_failed"  # as the port calls an upload that came to nothing
TRIES = 3


def name_of(instance: Instance) -> str:
    return labels.instance_name(instance.pk)


def marker_of(instance: Instance) -> Marker:
    return {
        labels.INSTANCE: str(instance.pk),
        labels.TENANT: str(instance.container.tenant_id),
    }


def find_vm(hypervisor: Hypervisor, instance: Instance) -> VmRecord | None:
    return hypervisor.find_vm(name_of(instance))


def may_run_unseen(instance: Instance, facts: Facts) -> bool:
    """Whether it was running, by the ledger, before this operation gave it a place: then a VM that cannot be
    found may still be there, and neither another one nor a release of its memory may be thought of.
    """
    return (
        instance.published_at is not None
        and instance.host_id is not None
        and not facts.get("placed_now", False)
    )


# ------------------------------------------------------------------------------------------------- making


def build_disks(hypervisor: Hypervisor, instance: Instance, facts: Facts) -> dict[str, str]:
    """Its three disks, from the golden disk and on the SR that `facts` names. Role → VDI.

    The scratch disk of a blank that it takes is that blank's.
    """
    marker, sr = marker_of(instance), UUID(facts["sr"])
    _claim_again(hypervisor, instance)

    def named(role: str) -> str:
        return labels.disk_name(instance.pk, role)

    config = config_of(instance, facts.get("nic"))
    specs: dict[str, CloneSpec | VdiSpec] = {
        "root": CloneSpec(named("root"), marker, UUID(facts["golden"])),
        "config": VdiSpec(named("config"), marker, sr, CONFIG_BYTES, content=config),
    }
    blank = facts.get("blank")
    there = {} if blank is None else {"scratch": blank["disk"]}
    if not there:
        specs["scratch"] = VdiSpec(named("scratch"), marker, sr, instance.disk_bytes)
    failures = 0
    while True:
        try:
            made = hypervisor.ensure_vdis(tuple(specs.values()))
        except Refused as no:
            failures += 1
            if no.reason != IMPORT_FAILED or failures == TRIES:
                raise
            # After a failed upload another disk (XAPI.md 4.5).
            _unmake_disk(hypervisor, instance, "config")
        else:
            new = {role: str(vdi.uuid) for role, vdi in zip(specs, made, strict=True)}
            return {**new, **there}


def _claim_again(hypervisor: Hypervisor, instance: Instance) -> None:
    """Disks that it had, of which a pool that lost its master may only have kept the bytes (XAPI.md 6.5)."""
    for role, vdi in instance.disk_uuids.items():
        try:
            hypervisor.adopt_vdi(
                UUID(vdi), name=labels.disk_name(instance.pk, role), marker=marker_of(instance)
            )
        except Gone:
            continue  # then another is made


def note_start(instance: Instance, facts: Facts, **more: Any) -> None:
    """Remember as what VM it was started, and from which disks. In a ledger step."""
    disks = {"disk_uuids": facts["disks"]} if "disks" in facts else {}
    Instance.objects.filter(pk=instance.pk).update(
        vm_uuid=facts["vm"], started_at=Now(), **disks, **more
    )


def config_of(instance: Instance, nic: Nic | None = None) -> bytes:
    """What the guest's init reads from the start of its config disk: JSON, then zeros."""
    container, image = instance.container, instance.container.version.config
    inherited = dict(pair.partition("=")[::2] for pair in image.get("env", []))
    spec: dict[str, Any] = {
        "version": 1,
        "hostname": container.name,
        "argv": [*image.get("entrypoint", []), *(container.command or image.get("cmd", []))],
        "env": {**inherited, **container.env},
        "cwd": image.get("working_dir") or "/",
        "user": image.get("user", ""),
        "stop_signal": image.get("stop_signal") or "SIGTERM",
    }
    if nic is not None:
        spec |= nics.config_of(nic, container.name)
    return json.dumps(spec, separators=(",", ":")).encode()


def boot_of(pool: Pool | None) -> BootHvm | BootDirect:
    """How VMs of this pool boot, as its operators said."""
    if pool is None or pool.boot_mode == BootMode.BIOS:
        return BootHvm("bios")
    if pool.boot_mode == BootMode.UEFI:
        return BootHvm("uefi")
    kind: Literal["pvh", "pv"] = "pvh" if pool.boot_mode == BootMode.PVH else "pv"
    return BootDirect(pool.boot_kernel, pool.boot_ramdisk, pool.boot_args, kind)


def build_vm(hypervisor: Hypervisor, instance: Instance, facts: Facts) -> VmRecord:
    """Its VM, with its disks on it, and its interface if it has one. Raises nics.NetworkLost."""
    vm = hypervisor.ensure_vm(
        VmSpec(
            name=name_of(instance),
            marker=marker_of(instance),
            memory_bytes=instance.memory_bytes,
            vcpus=instance.vcpus,
            boot=boot_of(instance.pool),
        )
    )
    for role, device in ROLES.items():
        hypervisor.ensure_vbd(
            VbdSpec(vm.uuid, UUID(facts["disks"][role]), device, bootable=role == "root")
        )
    if "nic" in facts:
        nics.build_nic(hypervisor, vm.uuid, facts["nic"])
    return vm


# ------------------------------------------------------------------------------------------------ running


def start(hypervisor: Hypervisor, vm: VmRecord, host: UUID) -> TaskHandle | None:
    """The task that starts it, perhaps one from before; None when it runs already."""
    if vm.power_state == "Running":
        return None
    return vm.task_of("start_on") or hypervisor.start_on(vm.uuid, host)


def has_started(hypervisor: Hypervisor, vm: VmRecord, task: str | None) -> bool | Wait:
    """True: it ran, though it may have ended since. False: nothing is known of a start; begin again.

    Raises what the start failed with.
    """
    if vm.power_state == "Running":
        if vm.guest is not None and vm.guest.pv_drivers_detected:
            _forget(hypervisor, task)
            return True
        return Wait(SOON, "The guest boots.")
    if task is None:
        return False
    try:
        record = hypervisor.poll(TaskHandle(task))
    except Gone:
        return Wait(SOON) if vm.task_of("start_on") else False
    if not record.is_finished:
        return Wait(SOON, "The VM is being started.")
    _forget(hypervisor, task)
    if record.error is not None:
        raise record.error
    return True


def _forget(hypervisor: Hypervisor, task: str | None) -> None:
    if task is not None:
        hypervisor.forget(TaskHandle(task))


def grace_from_now() -> str:
    """Until when a guest is asked, for facts; after that it is made to end."""
    return (timezone.now() + GRACE).isoformat()


def stop(hypervisor: Hypervisor, instance: Instance, facts: Facts) -> Wait | None:
    """Ask it to end, until `facts["grace"]`, then make it; None when it does not run."""
    vm = find_vm(hypervisor, instance)
    if vm is not None and vm.task_of("start_on") is not None:
        # Halted until that ends; let go of now, it would run where nobody expects it.
        return Wait(SOON, "It is still being started.")
    if vm is None:
        return LOST if may_run_unseen(instance, facts) else None
    if vm.power_state == "Halted":
        return None
    asked = vm.task_of("clean_shutdown") is not None
    listens = asked or "clean_shutdown" in vm.allowed_operations
    if listens and timezone.now() < datetime.fromisoformat(facts["grace"]):
        if not asked:
            hypervisor.clean_shutdown(vm.uuid)
        return Wait(SOON, "It was asked to end.")
    if vm.task_of("hard_shutdown") is None:
        hypervisor.hard_shutdown(vm.uuid)
    return Wait(SOON, "It is being ended.")


# ---------------------------------------------------------------------------------------------- unmaking


def unmake_vm(hypervisor: Hypervisor, instance: Instance) -> None:
    """No VM of it is left, running or not."""
    unmake_named(hypervisor, name_of(instance))


def unmake_named(hypervisor: Hypervisor, name: str) -> None:
    """No VM of ours of that name is left; a lost answer may have made two."""
    while (vm := hypervisor.find_vm(name)) is not None:
        hypervisor.destroy_vm(vm.uuid)


def unmake_disks(hypervisor: Hypervisor, instance: Instance) -> None:
    """None of its disks is left."""
    for role in ROLES:
        _unmake_disk(hypervisor, instance, role)


def _unmake_disk(hypervisor: Hypervisor, instance: Instance, role: str) -> None:
    unmake_disk_named(hypervisor, labels.disk_name(instance.pk, role))


def unmake_disk_named(hypervisor: Hypervisor, name: str) -> None:
    """No disk of ours of that name is left."""
    while (vdi := hypervisor.find_vdi(name)) is not None:
        hypervisor.destroy_vdi(vdi.uuid)
