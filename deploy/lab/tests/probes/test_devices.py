"""Disks, drives and interfaces of running and of halted VMs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.lab.tests.probes.scenario import Played, Pool, Step, each_line, play


def make_a_and_b(pool: Pool) -> None:
    pool.make_whole("a")
    pool.name_uuid("a", "VM")
    pool.name_uuid("a-vbd0", "VBD")
    pool.api.VM.start_on(pool["a"], pool["h1"], False, False)
    pool.make("b")
    library = next(ref for ref, sr in pool.api.SR.get_all_records().items() if sr["type"] == "iso")
    pool.bind("iso", pool.api.SR.get_VDIs(library)[0])


def leave_b_only_its_drive(pool: Pool) -> None:
    for vbd in pool.api.VM.get_VBDs(pool["b"]):
        if vbd != pool["drive"]:
            pool.api.VBD.destroy(vbd)


def vif(device: str, mac: str = "") -> str:
    return (
        f"VIF.create({{'VM': '<a>', 'network': '<xenbr0>', 'device': '{device}', 'MAC': '{mac}', "
        "'MTU': '1500', 'other_config': {}, 'qos_algorithm_type': '', 'qos_algorithm_params': {}},)"
    )


def vbd(vdi: str, device: str, mode: str, kind: str) -> str:
    return (
        f"VBD.create({{'VM': '<b>', 'VDI': '{vdi}', 'userdevice': '{device}', 'bootable': True, "
        f"'mode': '{mode}', 'type': '{kind}', 'empty': {vdi == 'OpaqueRef:NULL'}, "
        "'other_config': {}, 'qos_algorithm_type': '', 'qos_algorithm_params': {}},)"
    )


STEPS: list[Step] = [
    make_a_and_b,
    "`VBD.plug('<a-vbd0>',)` → **['DEVICE_ALREADY_ATTACHED', '<a-vbd0>']**",
    "`VBD.unplug('<a-vbd0>',)` → ",
    "`VBD.unplug('<a-vbd0>',)` → **['DEVICE_ALREADY_DETACHED', '<a-vbd0>']**",
    "`VBD.plug('<a-vbd0>',)` → ",
    "`VIF.plug('<a-vif0>',)` → **['DEVICE_ALREADY_ATTACHED', '<a-vif0>']**",
    "`VIF.unplug('<a-vif0>',)` → ",
    "`VIF.unplug('<a-vif0>',)` → **['DEVICE_ALREADY_DETACHED', '<a-vif0>']**",
    "`VIF.plug('<a-vif0>',)` → ",
    "`VIF.destroy('<a-vif0>',)` [attached] → **['OPERATION_NOT_ALLOWED', 'VIF currently attached to a running VM']**",
    """`VBD.destroy('<a-vbd0>',)` [attached] → **['OPERATION_NOT_ALLOWED', "VBD '<uuid:a-vbd0>' still attached to '<uuid:a>'"]**""",
    f"`{vif('0')}` [device taken] → **['DEVICE_ALREADY_EXISTS', '0']**",
    f"`{vif('1', 'zz')}` → **['MAC_INVALID', 'zz']**",
    f"`{vif('x')}` → **['INVALID_DEVICE', 'x']**",
    f"`{vif('1')}` → <vif>",
    "`VIF.plug('<vif>',)` → ",
    "`VIF.set_locking_mode('<vif>', 'locked')` → ",
    "`VIF.set_ipv4_allowed('<vif>', ['10.0.0.1'])` → ",
    "`VIF.set_ipv4_allowed('<vif>', ['10.0.0.999'])` → **['INVALID_IP_ADDRESS_SPECIFIED', 'ipv4_allowed']**",
    "`VIF.add_ipv6_allowed('<vif>', 'fe80::1')` → ",
    f"`VM.get_allowed_VIF_devices('<a>',)` → {[str(n) for n in range(2, 16)]}",
    f"`VM.get_allowed_VBD_devices('<a>',)` → {[str(n) for n in range(1, 255)]}",
    "`VDI.destroy('<a-vdi0>',)` [in use] → **['VDI_IN_USE', '<a-vdi0>', 'destroy']**",
    "`VDI.resize('<a-vdi0>', '17179869184')` [in use] → **['VDI_IN_USE', '<a-vdi0>', 'resize']**",
    "`VDI.snapshot('<a-vdi0>', {})` → <snapshot>",
    "`VDI.forget('<a-vdi0>',)` [in use] → **['VDI_IN_USE', '<a-vdi0>', 'forget']**",
    f"`{vbd('<a-vdi0>', '0', 'RW', 'Disk')}` [VDI attached RW elsewhere] → <b-vbd0>",
    "`VM.start('<b>', False, False)` → **['VDI_IN_USE', '<a-vdi0>']**",
    f"`{vbd('<a-vdi0>', '0', 'RW', 'Disk')}` [device taken] → **['DEVICE_ALREADY_EXISTS', '0']**",
    f"`{vbd('<a-vdi0>', '999', 'RW', 'Disk')}` → <b-vbd999>",
    f"`{vbd('OpaqueRef:NULL', '3', 'RO', 'CD')}` → <drive>",
    "`VBD.insert('<drive>', '<iso>')` → ",
    "`VBD.insert('<drive>', '<iso>')` [not empty] → **['VBD_NOT_EMPTY', '<drive>']**",
    "`VBD.eject('<drive>',)` → ",
    "`VBD.eject('<drive>',)` [empty] → **['VBD_IS_EMPTY', '<drive>']**",
    f"`{vbd('OpaqueRef:NULL', '5', 'RW', 'CD')}` [CD RW] → **['VBD_CDS_MUST_BE_READONLY']**",
    f"`{vbd('OpaqueRef:NULL', '6', 'RW', 'Disk')}` [empty disk] → **['VBD_NOT_REMOVABLE_MEDIA', 'in constructor']**",
    leave_b_only_its_drive,
    "`VM.start('<b>', False, False)` [only a CD drive] → ",
    "`VBD.eject('<drive>',)` → **['VBD_IS_EMPTY', '<drive>']**",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_devices_come_and_go_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
