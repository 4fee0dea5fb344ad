"""Making a VM of a template: the disks that its other_config asks for (xapi_templates.ml)."""

from __future__ import annotations

from dataclasses import dataclass
from xml.parsers import expat

from deploy.lab.classes.vm_clone import OWNER
from deploy.lab.classes.vm_lifecycle import check_operation
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message, within
from deploy.lab.errors import XapiError
from deploy.lab.operations import operation, refresh

DISKS = "disks"


@dataclass(frozen=True)
class Disk:
    """One <disk> of the <provision> text; `size` in bytes, `sr` a uuid."""

    device: str
    size: int
    sr: str
    bootable: bool
    type: str


def parse_disks(text: str) -> list[Disk]:
    """Read `<provision><disk .../></provision>`. Raises INTERNAL_ERROR."""
    found: list[Disk] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "disk":
            found.append(
                Disk(
                    attributes["device"],
                    int(attributes["size"]),
                    attributes["sr"],
                    attributes["bootable"] == "true",
                    attributes["type"],
                )
            )

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise XapiError("INTERNAL_ERROR", f"provision: {error}") from None
    return found


@message("VM.provision")
async def provision(call: Call, vm: Row) -> None:
    """A VM from now on, whether or not its disks can be made (recorded: clone_copy_provision)."""
    async with operation(call, vm, "provision", check_operation):
        await within(call, "VM.set_is_a_template", vm.ref, False)
        if DISKS in vm.other_config:
            for disk in parse_disks(vm.other_config[DISKS]):
                await _make_disk(call, vm, disk)
            rest = {key: value for key, value in vm.other_config.items() if key != DISKS}
            call.db.update(vm, other_config=rest)
    refresh(call.lab, vm)


async def _make_disk(call: Call, vm: Row, disk: Disk) -> None:
    if disk.sr not in call.db.tables["SR"].by_uuid:
        raise XapiError("UUID_INVALID", "sr", disk.sr)
    vdi = await within(
        call,
        "VDI.create",
        {
            "name_label": disk.device,
            "name_description": "Created by template provisioner",
            "SR": call.db.by_uuid("SR", disk.sr).ref,
            "virtual_size": disk.size,
            "type": disk.type,
            "sharable": False,
            "read_only": False,
            "other_config": {},
        },
    )
    await within(
        call,
        "VBD.create",
        {
            "VM": vm.ref,
            "VDI": vdi,
            "userdevice": disk.device,
            "bootable": disk.bootable,
            "mode": "RW",
            "type": "Disk",
            "unpluggable": disk.type != "system",
            "empty": False,
            "other_config": {OWNER: ""},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        },
    )
