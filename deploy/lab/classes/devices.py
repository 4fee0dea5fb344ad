"""Device names of disks: how a userdevice is read, and what a guest calls the disk.

Facts: xen-api device_number.ml and xapi_vm_helpers.ml; recorded: vbd_create, vbd_plug_states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from deploy.lab.database import Row

Bus = Literal["xen", "ide", "scsi", "floppy"]

IDE_DISKS = 4
"""The first disks of a guest with firmware are on an IDE bus."""
DEVICES_OF_VM, DEVICES_OF_CONTROL_DOMAIN = range(255), range(256)
FLOPPIES = range(2)

_BUSES: dict[str, Bus] = {"xvd": "xen", "hd": "ide", "sd": "scsi", "fd": "floppy"}
_PREFIXES: dict[Bus, str] = {"xen": "xvd", "ide": "xvd", "scsi": "sd", "floppy": "fd"}
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|[0-9][0-9_]*)")
_NAME = re.compile(r"(xvd|hd|sd|fd)([a-z]*)(\d[\da-fA-FxXoOuU_]*)?")
_XEN_NUMBER = re.compile(r"d(\d+)(?:p(\d+).*)?")


class Device(NamedTuple):
    bus: Bus
    disk: int
    partition: int = 0


def parse(name: str, *, firmware: bool) -> Device | None:
    """The device that a userdevice means; None when it means none.

    A number means an IDE disk below 4 in a guest with firmware, a paravirtual one otherwise.
    """
    if _NUMBER.fullmatch(name):
        return of_number(_integer(name), firmware=firmware)
    if matched := _NAME.fullmatch(name):
        prefix, letters, partition = matched.groups()
        return Device(_BUSES[prefix], _from_letters(letters), _integer(partition or "0"))
    if matched := _XEN_NUMBER.fullmatch(name):
        return Device("xen", int(matched.group(1)), int(matched.group(2) or 0))
    return None


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    prefixed = digits.lstrip("-")[:2].lower() in ("0x", "0o", "0b")
    return int(digits, 0 if prefixed else 10)


def of_number(number: int, *, firmware: bool) -> Device:
    return Device("ide" if firmware and number < IDE_DISKS else "xen", number)


def _from_letters(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def _to_letters(number: int) -> str:
    letters = ""
    while number >= 0:
        letters = chr(ord("a") + number % 26) + letters
        number = number // 26 - 1
    return letters


def is_valid(name: str) -> bool:
    return name == "autodetect" or parse(name, firmware=False) is not None


def linux_name(userdevice: str) -> str:
    """What the guest calls the disk: 0 → xvda, 26 → xvdaa, sda → sda."""
    device = parse(userdevice, firmware=False)
    if device is None:
        return userdevice
    partition = str(device.partition) if device.partition else ""
    return f"{_PREFIXES[device.bus]}{_to_letters(device.disk)}{partition}"


def meanings(name: str) -> set[Device]:
    """Every device that the name could mean."""
    found = (parse(name, firmware=True), parse(name, firmware=False))
    return {device for device in found if device is not None}


def used(vbds: Iterable[Row]) -> set[Device]:
    """What a VM's disks occupy, by their userdevice and by the name they last had."""
    return {
        device for vbd in vbds for name in (vbd.userdevice, vbd.device) for device in meanings(name)
    }


def boots_with_firmware(vm: Row) -> bool:
    if vm.domain_type != "unspecified":
        return bool(vm.domain_type == "hvm")
    return bool(vm.HVM_boot_policy)


def allowed(vm: Row, vbds: Iterable[Row], kind: str = "Disk") -> list[str]:
    """The userdevices that are free on the VM, lowest first (VM.get_allowed_VBD_devices)."""
    taken = used(vbds)
    if kind == "Floppy":
        floppies = (Device("floppy", number) for number in FLOPPIES)
        return [f"fd{_to_letters(d.disk)}" for d in floppies if d not in taken]
    numbers = DEVICES_OF_CONTROL_DOMAIN if vm.is_control_domain else DEVICES_OF_VM
    firmware = boots_with_firmware(vm) and not vm.is_control_domain
    return [str(n) for n in numbers if of_number(n, firmware=firmware) not in taken]
