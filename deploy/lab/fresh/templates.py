"""The default templates: names and families as recorded, fields by the rules of each family.

Two were recorded whole (Debian Bookworm 12, Other install media); of the others the names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.lab.classes.vm_create import make
from deploy.lab.database import Row, new_ref

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

GIB = 1024**3
MIB = 1024**2
LINUX_HINT = (
    "To use this template from the CLI, install your VM using vm-install, then set "
    "other-config-install-repository to the path to your network repository, e.g. "
    "http://<server>/<path> or nfs:server:/<path>"
)
_NAMES = """
    AlmaLinux 10|AlmaLinux 8|AlmaLinux 9|CentOS 6 (32-bit)|CentOS 6 (64-bit)|CentOS Stream 10
    CentOS Stream 9|Debian Bookworm 12|Debian Bullseye 11|Gooroom Platform 2.0
    NeoKylin Linux Server 6 (64-bit)|Oracle Enterprise Linux 5 (32-bit)
    Oracle Enterprise Linux 5 (64-bit)|Oracle Enterprise Linux 6 (32-bit)
    Oracle Enterprise Linux 6 (64-bit)|Oracle Linux 8|Other install media
    Red Hat Enterprise Linux 10|Red Hat Enterprise Linux 5 (32-bit)
    Red Hat Enterprise Linux 5 (64-bit)|Red Hat Enterprise Linux 6 (32-bit)
    Red Hat Enterprise Linux 6 (64-bit)|Red Hat Enterprise Linux 8|Red Hat Enterprise Linux 9
    Rocky Linux 8|Rocky Linux 9|SUSE Linux Enterprise 15 (64-bit)
    SUSE Linux Enterprise Desktop 11 SP3 (64-bit)|SUSE Linux Enterprise Desktop 12 (64-bit)
    SUSE Linux Enterprise Desktop 12 SP1 (64-bit)|SUSE Linux Enterprise Desktop 12 SP2 (64-bit)
    SUSE Linux Enterprise Server 11 SP3 (32-bit)|SUSE Linux Enterprise Server 11 SP3 (64-bit)
    SUSE Linux Enterprise Server 11 SP4 (32-bit)|SUSE Linux Enterprise Server 11 SP4 (64-bit)
    SUSE Linux Enterprise Server 12 (64-bit)|SUSE Linux Enterprise Server 12 SP1 (64-bit)
    SUSE Linux Enterprise Server 12 SP2 (64-bit)|SUSE Linux Enterprise Server 12 SP5 (64-bit)
    Scientific Linux 6 (32-bit)|Scientific Linux 6 (64-bit)|Ubuntu Jammy Jellyfish 22.04
    Ubuntu Noble Numbat 24.04|Windows 10 (64-bit)|Windows 11|Windows Server 2016 (64-bit)
    Windows Server 2019 (64-bit)|Windows Server 2022 (64-bit)|Windows Server 2025
"""
OTHER = "Other install media"
TEMPLATES = tuple(
    name.strip() for line in _NAMES.split("\n") for name in line.split("|") if name.strip()
)
FEW = (OTHER, "Debian Bookworm 12", "Ubuntu Noble Numbat 24.04")

_COMMON = {"nx": "true", "acpi": "1", "apic": "true", "pae": "true", "hpet": "true"}
_LABELS = {
    OTHER: "other-install-media",
    "Debian Bookworm 12": "debian-12",
    "Debian Bullseye 11": "debian-11",
    "Ubuntu Jammy Jellyfish 22.04": "ubuntu-22.04",
    "Ubuntu Noble Numbat 24.04": "ubuntu-24.04",
}


@dataclass(frozen=True)
class Family:
    """What the templates of a kind of system share. Sizes are bytes."""

    memory: int
    memory_min: int
    most_memory: int
    disk: int
    boot: dict[str, str]
    platform: dict[str, str]
    description: str
    methods: str
    passthrough: bool


_LINUX = Family(
    memory=2 * GIB,
    memory_min=GIB,
    most_memory=1536 * GIB,
    disk=10 * GIB,
    boot={"firmware": "uefi", "order": "cdn"},
    platform={
        "vga": "std",
        "videoram": "8",
        "viridian": "false",
        "device_id": "0001",
        "secureboot": "auto",
    },
    description=LINUX_HINT,
    methods="cdrom,nfs,http,ftp",
    passthrough=True,
)
_WINDOWS = Family(
    memory=4 * GIB,
    memory_min=2 * GIB,
    most_memory=1536 * GIB,
    disk=64 * GIB,
    boot={"firmware": "uefi", "order": "dcn"},
    platform={
        "vga": "std",
        "videoram": "8",
        "viridian": "true",
        "device_id": "0002",
        "secureboot": "auto",
    },
    description="Clones of this template will automatically provision their storage when first booted and then reconfigure themselves with the optimal settings for the operating system",
    methods="cdrom",
    passthrough=True,
)
_ANY = Family(
    memory=256 * MIB,
    memory_min=128 * MIB,
    most_memory=128 * GIB,
    disk=0,
    boot={"firmware": "bios", "order": "cd"},
    platform={"viridian": "true", "secureboot": "false"},
    description="Template which allows VM installation from install media",
    methods="cdrom",
    passthrough=False,
)


def make_template(lab: Lab, name: str) -> Row:
    family = _ANY if name == OTHER else _WINDOWS if name.startswith("Windows") else _LINUX
    return make(
        lab,
        name_label=name,
        name_description=family.description,
        user_version=1,
        version=1,
        is_a_template=True,
        is_default_template=True,
        memory_static_max=family.memory,
        memory_dynamic_max=family.memory,
        memory_dynamic_min=family.memory,
        memory_static_min=family.memory_min,
        VCPUs_max=1,
        VCPUs_at_startup=1,
        actions_after_shutdown="destroy",
        actions_after_reboot="restart",
        actions_after_crash="restart",
        HVM_boot_policy="BIOS order",
        HVM_boot_params=family.boot,
        platform=family.platform | _COMMON,
        other_config=_other_config(name, family),
        recommendations=_recommendations(family),
        generation_id="",
        has_vendor_device=False,
        reference_label=_LABELS.get(name) or _reference(name),
        domain_type="hvm",
    )


def _reference(name: str) -> str:
    bits = "-".join(re.findall(r"[a-z0-9.]+", name.lower()))
    return bits.replace("-32-bit", "-32bit").replace("-64-bit", "")


def _other_config(name: str, family: Family) -> dict[str, str]:
    settings = {
        "default_template": "true",
        "import_task": new_ref(),
        "mac_seed": new_ref().removeprefix("OpaqueRef:"),
    }
    if family is _LINUX:
        settings["linux_template"] = "true"
    settings["install-methods"] = family.methods
    if family.disk:
        settings["disks"] = (
            f'<provision><disk size="{family.disk}" sr="" bootable="true" type="system" '
            'device="0"/></provision>'
        )
    return settings


def _recommendations(family: Family) -> str:
    fields = {
        "memory-static-max": f'max="{family.most_memory}"',
        "vcpus-max": 'max="64"',
        "has-vendor-device": 'value="false"',
    }
    if family.passthrough:
        for name in ("allow-gpu-passthrough", "allow-vgpu", "allow-network-sriov"):
            fields[name] = 'value="1"'
    for name in ("supports-bios", "supports-uefi", "supports-secure-boot"):
        fields[name] = 'value="yes"'
    lines = [f'<restriction field="{name}" {limit}/>' for name, limit in fields.items()]
    for name, most in (("number-of-vbds", 255), ("number-of-vifs", 7)):
        lines.append(f'<restriction property="{name}" max="{most}"/>')
    return f"<restrictions>{''.join(lines)}</restrictions>"
