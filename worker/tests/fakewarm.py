"""Of the pool in memory (worker/tests/fakepool.py): VMs that boot without disks, stand still, and get devices later.

`runs`: VMs in which something of an instance's was begun, once for each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from worker.hypervisor.port import (
    BootDirect,
    BootHvm,
    Busy,
    Gone,
    Marker,
    Refused,
    VbdRecord,
    VifRecord,
    VmRecord,
)

ROOT = 0


@dataclass
class FakeWarm:
    """`args`: with what each VM's kernel boots next. `blank`: VMs whose guests wait for their devices.

    `mute`: guests that know nothing of being blank.
    """

    vms_by_uuid: dict[UUID, VmRecord] = field(default_factory=dict)
    vbds_by_uuid: dict[UUID, VbdRecord] = field(default_factory=dict)
    vifs_by_uuid: dict[UUID, VifRecord] = field(default_factory=dict)
    args: dict[UUID, str] = field(default_factory=dict)
    blank: set[UUID] = field(default_factory=set)
    runs: list[UUID] = field(default_factory=list)
    mute: bool = False

    def note_boot(self, vm: UUID, boot: BootHvm | BootDirect) -> None:
        self.args[vm] = boot.args if isinstance(boot, BootDirect) else ""

    def booted(self, vm: UUID) -> dict[str, str]:
        """It has all its devices. What its guest says below vm-data/ when it is up."""
        self.attach(vm, True)
        if "bulkhead.blank" in self.args.get(vm, "").split():
            self.blank.add(vm)
            return {} if self.mute else {"blank": "1"}
        self.blank.discard(vm)
        self.runs.append(vm)
        return {}

    def adopt_vm(self, vm: UUID, *, name: str, marker: Marker, boot: BootDirect) -> VmRecord:
        before = self._known(vm)
        if not before.marker:
            raise Refused("not_ours")
        self.args[vm] = boot.args
        self._set_vm(vm, name=name, marker=dict(marker))
        return replace(before, guest=None)

    def attach(self, vm: UUID, attached: bool) -> None:
        """Its devices, as they are while it runs or not."""
        for vbd in self.vbds(vm):
            self.vbds_by_uuid[vbd.uuid] = replace(vbd, currently_attached=attached)
        for uuid, vif in self.vifs_by_uuid.items():
            if vif.vm == vm:
                self.vifs_by_uuid[uuid] = replace(vif, currently_attached=attached)

    def pause(self, vm: UUID) -> None:
        self._must_be(vm, "Running")
        self._set_vm(vm, power_state="Paused")

    def unpause(self, vm: UUID) -> None:
        self._must_be(vm, "Paused")
        self._set_vm(vm, power_state="Running")

    def vbds(self, vm: UUID) -> tuple[VbdRecord, ...]:
        there = (vbd for vbd in self.vbds_by_uuid.values() if vbd.vm == vm)
        return tuple(sorted(there, key=lambda vbd: vbd.device))

    def plug_vbd(self, vbd: VbdRecord) -> None:
        """The guest of a blank begins when it has its root disk."""
        assert vbd.vm is not None
        self._must_be(vbd.vm, "Running")
        if vbd.currently_attached:
            return
        self.vbds_by_uuid[vbd.uuid] = replace(vbd, currently_attached=True)
        if vbd.device == ROOT and vbd.vm in self.blank:
            assert {1, 2} <= {one.device for one in self.vbds(vbd.vm) if one.currently_attached}
            self.blank.discard(vbd.vm)
            self.runs.append(vbd.vm)

    def plug_vif(self, vif: VifRecord) -> VifRecord:
        assert vif.vm is not None
        self._must_be(vif.vm, "Running")
        return replace(vif, currently_attached=True)

    def _known(self, vm: UUID) -> VmRecord:
        try:
            return self.vms_by_uuid[vm]
        except KeyError:
            raise Gone("gone") from None

    def _must_be(self, vm: UUID, power_state: str) -> None:
        if self._known(vm).power_state != power_state:
            raise Busy("power_state")

    def _set_vm(self, vm: UUID, **changes: Any) -> None:
        raise NotImplementedError
