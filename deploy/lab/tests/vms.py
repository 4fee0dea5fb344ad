"""Making VMs for tests, through the API."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from XenAPI import XenAPI

from deploy.lab.testing import RunningLab

MIB, GIB = 1024**2, 1024**3
_names = itertools.count(1)

RECORD: dict[str, Any] = {
    "name_description": "",
    "user_version": "1",
    "is_a_template": False,
    "affinity": "OpaqueRef:NULL",
    "VCPUs_params": {},
    "actions_after_shutdown": "destroy",
    "actions_after_reboot": "restart",
    "actions_after_crash": "destroy",
    "PV_bootloader": "",
    "PV_kernel": "",
    "PV_ramdisk": "",
    "PV_args": "",
    "PV_bootloader_args": "",
    "PV_legacy_args": "",
    "HVM_boot_policy": "BIOS order",
    "HVM_boot_params": {"order": "c"},
    "platform": {"acpi": "1", "apic": "true", "pae": "true"},
    "PCI_bus": "",
    "recommendations": "",
}


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
        record = RECORD | {
            "name_label": f"vm{next(_names)}",
            "memory_static_max": str(memory),
            "memory_static_min": str(memory),
            "memory_dynamic_max": str(memory),
            "memory_dynamic_min": str(memory),
            "VCPUs_max": str(vcpus),
            "VCPUs_at_startup": "1",
            "other_config": {"lab:guest": guest} if guest else {},
        }
        ref: str = self.api.VM.create(record | fields)
        return ref

    def disk(self, sr: str, *, sharable: bool = False) -> str:
        ref: str = self.api.VDI.create(
            {
                "name_label": "disk",
                "name_description": "",
                "SR": sr,
                "virtual_size": str(16 * MIB),
                "type": "user",
                "sharable": sharable,
                "read_only": False,
                "other_config": {},
            }
        )
        return ref

    def give_disk(self, vm: str, vdi: str, *, mode: str = "RW", userdevice: str = "0") -> str:
        ref: str = self.api.VBD.create(
            {
                "VM": vm,
                "VDI": vdi,
                "userdevice": userdevice,
                "bootable": True,
                "mode": mode,
                "type": "Disk",
                "unpluggable": True,
                "empty": False,
                "other_config": {},
                "qos_algorithm_type": "",
                "qos_algorithm_params": {},
            }
        )
        return ref

    def give_interface(self, vm: str, network: str) -> str:
        ref: str = self.api.VIF.create(
            {
                "VM": vm,
                "network": network,
                "device": "0",
                "MAC": "",
                "MTU": "1500",
                "other_config": {},
                "qos_algorithm_type": "",
                "qos_algorithm_params": {},
            }
        )
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
