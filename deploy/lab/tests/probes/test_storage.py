"""Disks and repositories: sizes, clones, snapshots, what is in use."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def start_a(pool: Pool) -> None:
    pool.make_whole("a")
    pool.api.VM.start_on(pool["a"], pool["h1"], False, False)
    plugged = set(pool.api.SR.get_PBDs(pool["nfs"])) & set(pool.api.host.get_PBDs(pool["h1"]))
    pool.bind("pbd", plugged.pop())


def size_and_operations(pool: Pool) -> tuple[str, list[str]]:
    vdi = pool.api.VDI.get_record(pool["f"])
    return vdi["virtual_size"], sorted(vdi["allowed_operations"])


def vdi(name: str, size: str) -> str:
    return (
        f"VDI.create({{'name_label': '{name}', 'name_description': '', 'SR': '<nfs>', "
        f"'virtual_size': '{size}', 'type': 'user', 'sharable': False, 'read_only': False, "
        "'other_config': {}},)"
    )


STEPS: list[Step] = [
    start_a,
    f"`{vdi('neg', '-1')}` → **['SR_BACKEND_FAILURE_79', '', 'VDI Invalid size', '']**",
    f"`{vdi('huge', '98956046499840')}` → **['SR_BACKEND_FAILURE_79', '', 'VDI Invalid size', '']**",
    f"`{vdi('f', '1073741825')}` → <f>",
    Look(
        "virtual_size 1075838976 ['clone', 'copy', 'destroy', 'forget', 'generate_config', 'resize', 'snapshot', 'update']",
        size_and_operations,
        (
            "1075838976",
            [
                *("clone", "copy", "destroy", "forget", "generate_config"),
                *("resize", "snapshot", "update"),
            ],
        ),
    ),
    "`VDI.resize('<f>', '1048576')` [shrink] → **['SR_BACKEND_FAILURE_79', '', 'VDI Invalid size', '']**",
    "`VDI.resize('<f>', '2147483648')` → ",
    "`VDI.clone('<f>', {})` → <clone>",
    "`VDI.snapshot('<f>', {})` → <snapshot>",
    Look(
        "snapshot_of True",
        lambda pool: pool.api.VDI.get_snapshot_of(pool["snapshot"]) == pool["f"],
        True,
    ),
    "`VDI.set_name_label('<f>', 'g')` → ",
    "`VDI.pool_migrate('<f>', '<local-h1>', {})` → **['VDI_NEEDS_VM_FOR_MIGRATE', '<f>']**",
    "`VDI.destroy('<clone>',)` → ",
    "`VDI.destroy('<snapshot>',)` → ",
    "`VDI.destroy('<f>',)` → ",
    "`PBD.unplug('<pbd>',)` [VDI in use] → **['VDI_IN_USE', '<a-vdi0>']**",
    "`SR.forget('<nfs>',)` → **['SR_HAS_PBD', '<nfs>']**",
    "`SR.destroy('<nfs>',)` → **['SR_HAS_PBD', '<nfs>']**",
    "`SR.create('<h1>', {}, '0', 'x', '', 'nosuchtype', 'user', False, {})` → **['SR_UNKNOWN_DRIVER', 'nosuchtype']**",
    "`SR.scan('<nfs>',)` → ",
    "`SR.set_shared('<local-h1>', True)` → ",
    "`PBD.plug('<pbd>',)` [again] → ",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_storage_answers_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
