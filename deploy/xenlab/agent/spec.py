"""What a domain is made of, as the client says it, and as xl's configuration says it.

The configuration's keys: xl.cfg(5) of Xen 4.17. A domain's name for xl is its UUID, which is unique where
labels are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from deploy.xenlab.agent import fields
from deploy.xenlab.agent.errors import AgentError

# libxl 4.17 always runs a script for a device; what scripts do is done by hotplug.py.
NO_SCRIPT = "/usr/bin/true"
# A kernel that finds itself on one processor takes the lock prefixes out of itself, in 6,000 places: a millisecond on a
# machine. Here each place costs what QEMU had translated around it, together a second of a guest's start.
EMULATED = "noreplace-smp"


@dataclass(frozen=True)
class Disk:
    device: int
    vdi: str
    read_only: bool

    @property
    def name(self) -> str:
        """What the guest calls it."""
        return f"xvd{chr(ord('a') + self.device)}"


@dataclass(frozen=True)
class Vif:
    """`locked`: only `mac`, and only the addresses, may be a frame's source. `kbps`: kilobytes/s.

    `disabled`: nothing the guest sends passes.
    """

    device: int
    mac: str
    bridge: str
    locked: bool
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    kbps: int | None
    disabled: bool = False


@dataclass(frozen=True)
class Devices:
    """What a host must have ready before a domain can run on it."""

    uuid: str
    disks: tuple[Disk, ...]
    vifs: tuple[Vif, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def with_vif(self, changes: Mapping[str, Any]) -> tuple[Devices, Vif, Vif]:
        """With one interface changed; it before and after. `device` says which.

        Raises AgentError `no_such_interface`, `bad_argument`.
        """
        number = fields.number(changes, "device", 0, 15)
        for before in self.vifs:
            if before.device == number:
                after = _vif({**json.loads(json.dumps(asdict(before))), **changes})
                vifs = tuple(after if vif is before else vif for vif in self.vifs)
                return replace(self, vifs=vifs), before, after
        raise AgentError("no_such_interface", f"{self.uuid} has no interface {number}")


@dataclass(frozen=True)
class Domain:
    """All that `create` needs to know."""

    devices: Devices
    memory_mib: int
    vcpus: int
    kind: str
    kernel: str
    ramdisk: str
    arguments: str
    xenstore: tuple[tuple[str, str], ...]
    paused: bool


def devices_of(arguments: Mapping[str, Any]) -> Devices:
    """Of `create` or `receive`, or of `to_json`'s text; raises AgentError `bad_argument`."""
    return Devices(
        uuid=fields.identity(arguments),
        disks=tuple(_disk(disk) for disk in fields.many(arguments, "disks")),
        vifs=tuple(_vif(vif) for vif in fields.many(arguments, "vifs")),
    )


def domain_of(arguments: Mapping[str, Any]) -> Domain:
    """`create`'s arguments; raises AgentError `bad_argument`."""
    kind = fields.text(arguments, "type")
    if kind not in ("pv", "pvh"):
        raise fields.bad("type", "`pv` or `pvh`")
    wanted = arguments.get("xenstore", {})
    if not isinstance(wanted, dict):
        raise fields.bad("xenstore", "an object of paths and values")
    return Domain(
        devices=devices_of(arguments),
        memory_mib=fields.number(arguments, "memory_mib", 16, 1 << 20),
        vcpus=fields.number(arguments, "vcpus", 1, 64),
        kind=kind,
        kernel=fields.text(arguments, "kernel"),
        ramdisk=fields.text(arguments, "ramdisk", ""),
        arguments=f"{EMULATED} {fields.text(arguments, 'args', '')}".rstrip(),
        xenstore=tuple((path_below(path), fields.text(wanted, path)) for path in wanted),
        paused=fields.boolean(arguments, "paused", True),
    )


def path_below(path: object) -> str:
    """A path of a domain's own part of xenstore, where a guest's and an operator's values lie."""
    if (
        not isinstance(path, str)
        or not path.isascii()
        or path.split("/")[0] not in ("vm-data", "attr", "data", "control", "bulkhead")
        or any(part in ("", ".", "..") for part in path.split("/"))
        or len(path) > 1024
    ):
        raise fields.bad("path", "below vm-data/, attr/, data/, control/ or bulkhead/")
    return path


def configuration(domain: Domain, path_of: Callable[[str], str]) -> str:
    """xl's configuration; `path_of` gives the block device of an attached VDI."""
    disks = [
        f"format=raw,vdev={disk.name},access={'ro' if disk.read_only else 'rw'},"
        f"script={NO_SCRIPT},target={path_of(disk.vdi)}"
        for disk in domain.devices.disks
    ]
    vifs = [
        f"devid={vif.device},mac={vif.mac},bridge={vif.bridge},script={NO_SCRIPT}"
        + (f",rate={vif.kbps}KB/s" if vif.kbps else "")
        for vif in domain.devices.vifs
    ]
    lines = {
        "name": _quoted(domain.devices.uuid),
        "uuid": _quoted(domain.devices.uuid),
        "type": _quoted(domain.kind),
        # An emulated processor's TSC is not called invariant, and Xen would have every look at the clock leave
        # the guest (xl.cfg(5)): a third of the time to boot.
        "tsc_mode": _quoted("native"),
        "memory": str(domain.memory_mib),
        "vcpus": str(domain.vcpus),
        "kernel": _quoted(domain.kernel),
        "ramdisk": _quoted(domain.ramdisk),
        "cmdline": _quoted(domain.arguments),
        "disk": _listed(disks),
        "vif": _listed(vifs),
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items() if value != '""')


def _disk(value: object) -> Disk:
    if not isinstance(value, dict):
        raise fields.bad("disks", "a list of objects")
    return Disk(
        device=fields.number(value, "device", 0, 15),
        vdi=fields.plain_name(value, "vdi"),
        read_only=fields.boolean(value, "read_only"),
    )


def _vif(value: object) -> Vif:
    if not isinstance(value, dict):
        raise fields.bad("vifs", "a list of objects")
    limited = value.get("kbps") is not None
    return Vif(
        device=fields.number(value, "device", 0, 15),
        mac=fields.mac(value),
        bridge=fields.bridge(value),
        locked=fields.boolean(value, "locked"),
        ipv4=fields.addresses(value, "ipv4", 4),
        ipv6=fields.addresses(value, "ipv6", 6),
        kbps=fields.number(value, "kbps", 1, 100_000_000) if limited else None,
        disabled=fields.boolean(value, "disabled"),
    )


def _listed(items: list[str]) -> str:
    return "[ " + ", ".join(_quoted(item) for item in items) + " ]"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
