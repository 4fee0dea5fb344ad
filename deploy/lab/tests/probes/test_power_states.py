"""What a VM's power state, its kind and its blocked operations let be done with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.lab.samples import GIB
from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def state_and_operations(pool: Pool) -> tuple[str, list[str]]:
    vm = pool.api.VM.get_record(pool["a"])
    return vm["power_state"], sorted(vm["allowed_operations"])


STEPS: list[Step] = [
    lambda pool: pool.make_whole(
        "a", memory_static_max=str(2 * GIB), affinity=pool["h1"], vcpus=2, VCPUs_at_startup="2"
    ),
    "`VM.pause('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'running', 'halted']**",
    "`VM.unpause('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'paused', 'halted']**",
    "`VM.suspend('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'running', 'halted']**",
    "`VM.clean_shutdown('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'running', 'halted']**",
    "`VM.hard_shutdown('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'paused, suspended, running', 'halted']**",
    "`VM.clean_reboot('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'running', 'halted']**",
    "`VM.hard_reboot('<a>',)` [halted] → **['VM_BAD_POWER_STATE', '<a>', 'paused, running', 'halted']**",
    "`VM.resume('<a>', False, False)` → **['VM_BAD_POWER_STATE', '<a>', 'suspended', 'halted']**",
    "`VM.provision('<a>',)` → **['PROVISION_ONLY_ALLOWED_ON_TEMPLATE']**",
    "`VM.revert('<a>',)` → **['VM_REVERT_FAILED', '<a>', 'OpaqueRef:NULL']**",
    "`VM.start('<template>', False, False)` → **['VM_IS_TEMPLATE', '<template>', 'start']**",
    "`VM.destroy('<template>',)` → **['VM_IS_TEMPLATE', '<template>', 'destroy']**",
    "`VM.add_to_blocked_operations('<a>', 'start', 'because')` → ",
    "`VM.start('<a>', False, False)` → **['OPERATION_BLOCKED', '<a>', 'because']**",
    "`VM.remove_from_blocked_operations('<a>', 'start')` → ",
    "`VM.start('<a>', True, False)` [paused] → ",
    Look(
        "state Paused ['hard_reboot', 'hard_shutdown', 'metadata_export', 'snapshot', 'unpause']",
        state_and_operations,
        (
            "Paused",
            ["hard_reboot", "hard_shutdown", "metadata_export", "snapshot", "unpause"],
        ),
    ),
    "`VM.start('<a>', False, False)` → **['VM_BAD_POWER_STATE', '<a>', 'halted', 'paused']**",
    "`VM.unpause('<a>',)` → ",
    "`VM.destroy('<a>',)` → **['VM_BAD_POWER_STATE', '<a>', 'halted, suspended', 'running']**",
    "`VM.set_VCPUs_max('<a>', '2')` → **['VM_BAD_POWER_STATE', '<a>', 'halted', 'running']**",
    "`VM.set_VCPUs_number_live('<a>', '1')` → ",
    "`VM.set_memory_dynamic_range('<a>', '1073741824', '1073741824')` → ",
    "`VM.set_is_a_template('<a>', True)` → **['VM_BAD_POWER_STATE', '<a>', 'halted', 'running']**",
    "`VM.set_ha_restart_priority('<a>', 'nope')` → **['INVALID_VALUE', 'ha_restart_priority', 'nope']**",
    "`VM.set_memory_static_range('<a>', '536870912', '1073741824')` → **['VM_BAD_POWER_STATE', '<a>', 'halted', 'running']**",
    "`VM.power_state_reset('<a>',)` [running] → **['DOMAIN_EXISTS', '<a>']**",
    "`host.declare_dead('<h2>',)` [alive] → **['HOST_IS_LIVE', '<h2>']**",
    "`host.destroy('<h2>',)` → **['HOST_IS_LIVE', '<h2>']**",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_a_vms_state_decides_what_may_be_done_with_it(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
