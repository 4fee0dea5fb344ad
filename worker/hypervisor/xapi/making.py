"""Making VMs and their devices: find, else do.

A VM is found again by its deterministic name and our marker, both stored by VM.create in one go; a
device by its number on the VM. (VM.create: fields without default as recorded in vm_create_fields.)
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from worker.hypervisor.port import (
    MARKER_PREFIX,
    BootDirect,
    BootHvm,
    Busy,
    Gone,
    LockingMode,
    Marker,
    Refused,
    VbdSpec,
    VifRecord,
    VifSpec,
    VmRecord,
    VmSpec,
)
from worker.hypervisor.xapi import records
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.reading import Reading
from worker.hypervisor.xapi.records import NULL, VM_DATA, Raw
from worker.hypervisor.xapi.tasks import TaskCalls

OPERATION: Final = f"{MARKER_PREFIX}operation"
HARD_STOP: Final = timedelta(seconds=45)
PLATFORM: Final = {
    "acpi": "1",
    "apic": "true",
    "pae": "true",
    "nx": "true",
    "viridian": "false",
    "vga": "std",
    "videoram": "8",
}
_NO_QOS: Final[Mapping[str, object]] = {"qos_algorithm_type": "", "qos_algorithm_params": {}}


def is_ours(marker: Marker, wanted: Marker) -> bool:
    """Whether an object of the wanted name is the wanted one, perhaps made by an earlier attempt."""
    shared = (marker.keys() & wanted.keys()) - {OPERATION}
    return bool(marker) and all(marker[key] == wanted[key] for key in shared)


def first_of(found: Mapping[str, Raw], wanted: Marker) -> tuple[str, Raw] | None:
    """Of several the one this operation made, then the lowest reference: all attempts agree."""
    ours = [(ref, raw) for ref, raw in found.items() if is_ours(records.marker_of(raw), wanted)]

    def order(item: tuple[str, Raw]) -> tuple[bool, str]:
        operation = records.marker_of(item[1]).get(OPERATION)
        return (operation is None or operation != wanted.get(OPERATION), item[0])

    return min(ours, key=order, default=None)


class Making:
    def __init__(self, calls: Calls, reading: Reading, tasks: TaskCalls) -> None:
        self._calls = calls
        self._reading = reading
        self._tasks = tasks

    # VMs ----------------------------------------------------------------------------------------

    def find_vm(self, name: str) -> VmRecord | None:
        found = first_of(self._vms_named(name), {})
        return self._reading.vm_of(found[1]) if found is not None else None

    def ensure_vm(self, spec: VmSpec) -> VmRecord:
        found = first_of(self._vms_named(spec.name), spec.marker)
        if found is not None:
            return self._reading.vm_of(found[1])
        affinity = self._calls.ref("host", spec.affinity) if spec.affinity else NULL
        ref = str(self._calls.call("VM.create", vm_fields(spec, affinity)))
        return self._reading.vm_of(self._calls.record_of("VM", ref))

    def _vms_named(self, name: str) -> dict[str, Raw]:
        named = self._calls.named("VM", name).items()
        copies = ("is_a_template", "is_a_snapshot")
        return {ref: raw for ref, raw in named if not any(raw[field] for field in copies)}

    def adopt_vm(self, vm: UUID, *, name: str, marker: Marker, boot: BootDirect) -> VmRecord:
        """Four calls, or the one that reads where an earlier attempt came to its end."""
        raw = self._calls.record("VM", vm)
        if not records.marker_of(raw):
            raise Refused("not_ours")
        ref = self._calls.ref("VM", vm)
        config = remarked(raw["other_config"], marker)
        for field, value in (
            ("PV_args", boot.args),
            ("other_config", config),
            ("name_label", name),
        ):
            if raw[field] != value:
                self._calls.call(f"VM.set_{field}", ref, value)
        return records.vm_record(raw, {}, None, self._calls.resolve)

    def set_vm_marker(self, vm: UUID, marker: Marker) -> None:
        ref = self._calls.ref("VM", vm)
        config = self._calls.read("VM.get_other_config", ref)
        self._calls.call("VM.set_other_config", ref, remarked(config, marker))

    def set_vm_data(self, vm: UUID, data: Mapping[str, str]) -> None:
        ref = self._calls.ref("VM", vm)
        current = self._calls.read("VM.get_xenstore_data", ref)
        others = {k: v for k, v in current.items() if not k.startswith(VM_DATA)}
        ours = {f"{VM_DATA}{key}": value for key, value in data.items()}
        self._calls.call("VM.set_xenstore_data", ref, others | ours)

    def destroy_vm(self, vm: UUID) -> None:
        try:
            raw = self._calls.record("VM", vm)
        except Gone:
            return
        if not records.marker_of(raw):
            raise Refused("not_ours")
        try:
            self._destroy(self._calls.ref("VM", vm), raw)
        except Gone:  # another attempt was faster
            return

    def _destroy(self, ref: str, raw: Raw) -> None:
        if raw["blocked_operations"]:
            self._calls.call("VM.set_blocked_operations", ref, {})
        if raw["is_a_template"] and not raw["is_a_snapshot"]:
            self._calls.call("VM.set_is_a_template", ref, False)
        if raw["power_state"] != "Halted":
            self._tasks.wait(self._calls.start("VM.hard_shutdown", ref), HARD_STOP)
        for snapshot in raw["snapshots"]:
            self._calls.call("VM.destroy", snapshot)
        self._calls.call("VM.destroy", ref)

    # devices ------------------------------------------------------------------------------------

    def ensure_vbd(self, spec: VbdSpec, *, plug: bool = False) -> None:
        vm, vdi = self._calls.ref("VM", spec.vm), self._calls.ref("VDI", spec.vdi)
        fields = {
            "VM": vm,
            "VDI": vdi,
            "userdevice": str(spec.device),
            "bootable": spec.bootable,
            "mode": spec.mode,
            "type": spec.type,
            "unpluggable": True,
            "empty": False,
            "other_config": {},
            **_NO_QOS,
        }
        try:
            vbd = str(self._calls.call("VBD.create", fields))
        except Refused as refused:
            found = self._calls.where("VBD", VM=vm, userdevice=str(spec.device))
            same = [ref for ref, raw in found.items() if raw["VDI"] == vdi]
            if refused.reason != "conflict" or not same:
                raise
            vbd = same[0]
        if plug:
            self._plug("VBD", vbd)

    def _plug(self, kind: str, ref: str) -> None:
        """The answer that it is plugged already is as good."""
        try:
            self._calls.call(f"{kind}.plug", ref)
        except Busy as busy:
            if busy.reason != "plugged_already":
                raise

    def ensure_vif(self, spec: VifSpec, *, plug: bool = False) -> None:
        vm, network = self._calls.ref("VM", spec.vm), self._calls.ref("network", spec.network)
        try:
            vif = str(self._calls.call("VIF.create", vif_fields(spec, vm, network)))
        except Refused as refused:
            found = self._calls.where("VIF", VM=vm, device=str(spec.device))
            mac = spec.mac.lower()
            same = [ref for ref, raw in found.items() if raw["MAC"].lower() == mac]
            if refused.reason != "conflict" or not same:
                raise
            vif = same[0]
            if found[vif]["network"] != network:
                # As it was locked, and only then as it is to be.
                self._calls.call("VIF.move", vif, network)
            self._lock(records.vif_record(found[vif], self._calls.resolve), spec)
            plug = plug and not found[vif]["currently_attached"]
        if plug:
            self._plug("VIF", vif)

    def _lock(self, vif: VifRecord, spec: VifSpec) -> None:
        """An adopted VIF locks as asked for now, whatever the earlier attempt asked for."""
        asked = (spec.locking_mode, sorted(spec.ipv4_allowed), sorted(spec.ipv6_allowed))
        if (vif.locking_mode, list(vif.ipv4_allowed), list(vif.ipv6_allowed)) != asked:
            self.set_vif_locking(
                vif.uuid, spec.locking_mode, ipv4=spec.ipv4_allowed, ipv6=spec.ipv6_allowed
            )

    def set_vif_locking(
        self, vif: UUID, mode: LockingMode, *, ipv4: tuple[str, ...], ipv6: tuple[str, ...] = ()
    ) -> None:
        """The lists first when locking, last when unlocking: never looser than either state."""
        ref = self._calls.ref("VIF", vif)
        lists = [("VIF.set_ipv4_allowed", list(ipv4)), ("VIF.set_ipv6_allowed", list(ipv6))]
        steps: list[tuple[str, object]] = [*lists, ("VIF.set_locking_mode", mode)]
        for method, value in steps if mode == "locked" else reversed(steps):
            self._calls.call(method, ref, value)


def remarked(config: Mapping[str, str], marker: Marker) -> dict[str, str]:
    """other_config with our keys replaced and everyone else's kept."""
    others = {k: v for k, v in config.items() if not k.startswith(MARKER_PREFIX)}
    return others | dict(marker)


def vm_fields(spec: VmSpec, affinity: str) -> dict[str, Any]:
    """The record VM.create wants. No ballooning, so that memory is simple arithmetic."""
    memory = str(spec.memory_bytes)
    params = {
        "weight": spec.vcpu_weight,
        "cap": spec.vcpu_cap_percent,
    }
    return {
        "name_label": spec.name,
        "name_description": spec.description,
        "user_version": "1",
        "is_a_template": False,
        "affinity": affinity,
        "memory_static_max": memory,
        "memory_dynamic_max": memory,
        "memory_dynamic_min": memory,
        "memory_static_min": memory,
        "VCPUs_params": {key: str(value) for key, value in params.items() if value is not None},
        "VCPUs_max": str(spec.vcpus),
        "VCPUs_at_startup": str(spec.vcpus),
        # Restarting is decided by us: xapi's own rules know nothing of back-off or a wish to stop.
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "destroy",
        "PV_bootloader": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "PCI_bus": "",
        "other_config": dict(spec.marker),
        "xenstore_data": {f"{VM_DATA}{key}": value for key, value in spec.vm_data.items()},
        "recommendations": "",
        "platform": {**PLATFORM, **_secure_boot(spec.boot), **spec.platform},
        **_boot_fields(spec.boot),
    }


def _boot_fields(boot: BootHvm | BootDirect) -> dict[str, object]:
    if isinstance(boot, BootDirect):
        return {
            "domain_type": boot.kind,
            "HVM_boot_policy": "",
            "HVM_boot_params": {},
            "PV_kernel": boot.kernel,
            "PV_ramdisk": boot.ramdisk,
            "PV_args": boot.args,
        }
    return {
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {"order": "c", "firmware": boot.firmware},
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
    }


def _secure_boot(boot: BootHvm | BootDirect) -> dict[str, str]:
    uefi = isinstance(boot, BootHvm) and boot.firmware == "uefi"
    return {"secureboot": "false"} if uefi else {}


def vif_fields(spec: VifSpec, vm: str, network: str) -> dict[str, Any]:
    """The record VIF.create wants; locking is given in it, so there is no unlocked moment."""
    limit = (
        {"qos_algorithm_type": "ratelimit", "qos_algorithm_params": {"kbps": str(spec.rate_kbps)}}
        if spec.rate_kbps is not None
        else _NO_QOS
    )
    return {
        "VM": vm,
        "network": network,
        "device": str(spec.device),
        "MAC": spec.mac,
        "MTU": str(spec.mtu),
        "other_config": {},
        "locking_mode": spec.locking_mode,
        "ipv4_allowed": list(spec.ipv4_allowed),
        "ipv6_allowed": list(spec.ipv6_allowed),
        **limit,
    }
