"""Making VMs for tests, through the API."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from XenAPI import XenAPI

from deploy.lab.samples import MIB, vbd_record, vdi_record, vif_record, vm_record
from deploy.lab.testing import RunningLab

_names = itertools.count(1)


class Vms:
    """A client of a running lab, with short ways to what tests of VMs need."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.session = XenAPI.Session(lab.url, ignore_ssl=True)
        self.session.login_with_password(lab.username, lab.password, "2.21", "tests")
        self.api = self.session.xenapi
        self.hosts = {self.api.host.get_name_label(ref): ref for ref in self.api.host.get_all()}
        self.names = {ref: name for name, ref in self.hosts.items()}

    def vm(self, *, memory: int = 256 * MIB, vcpus: int = 1, guest: str = "", **fields: Any) -> str:
        """A halted VM without disks. `guest` says how its guest behaves (guest.py)."""
        fields.setdefault("other_config", {"lab:guest": guest} if guest else {})
        fields.setdefault("VCPUs_at_startup", "1")
        ref: str = self.api.VM.create(
            vm_record(f"vm{next(_names)}", memory=memory, vcpus=vcpus, **fields)
        )
        return ref

    def disk(self, sr: str, *, sharable: bool = False) -> str:
        ref: str = self.api.VDI.create(vdi_record("disk", sr, size=16 * MIB, sharable=sharable))
        return ref

    def give_disk(self, vm: str, vdi: str, *, mode: str = "RW", userdevice: str = "0") -> str:
        ref: str = self.api.VBD.create(vbd_record(vm, vdi, mode=mode, userdevice=userdevice))
        return ref

    def give_interface(self, vm: str, network: str) -> str:
        ref: str = self.api.VIF.create(vif_record(vm, network))
        return ref

    def started(self, host: str, **options: Any) -> str:
        """A VM that runs on the host of that name."""
        vm = self.vm(**options)
        self.api.VM.start_on(vm, self.hosts[host], False, False)
        return vm

    def shared_storage(self) -> str:
        return next(
            str(ref)
            for ref, sr in self.api.SR.get_all_records().items()
            if sr["type"] == "nfs" and sr["shared"]
        )

    def local_storage(self, host: str) -> str:
        for pbd in self.api.host.get_PBDs(self.hosts[host]):
            sr = self.api.PBD.get_SR(pbd)
            if self.api.SR.get_type(sr) == "ext":
                return str(sr)
        raise LookupError(host)

    def where(self, vm: str) -> str:
        """The name of the host that the VM is resident on; "" when nowhere."""
        return str(self.names.get(self.api.VM.get_resident_on(vm), ""))

    def state(self, vm: str) -> str:
        return str(self.api.VM.get_power_state(vm))

    def clear(self) -> None:
        """Stop and remove every VM that a test has made, and bring the hosts back into service."""
        for ref, vm in self.api.VM.get_all_records().items():
            if vm["is_control_domain"] or vm["is_a_template"]:
                continue
            if vm["power_state"] != "Halted":
                self.api.VM.hard_shutdown(ref)
            self.api.VM.destroy(ref)
        for host in self.hosts.values():
            self.api.host.enable(host)


@contextmanager
def vms_of(lab: RunningLab) -> Iterator[Vms]:
    """A client of the lab for as long as the block runs."""
    vms = Vms(lab)
    try:
        yield vms
    finally:
        vms.session("close")()


def error_of(call: Any, *arguments: Any) -> list[str]:
    """The error a call answers with. Fails when it succeeds."""
    try:
        answer = call(*arguments)
    except XenAPI.Failure as failure:
        return list(failure.details)
    raise AssertionError(f"succeeded: {answer!r}")
