"""Taking hosts out of service and emptying them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def operations_of_h2(pool: Pool) -> list[str]:
    return sorted(pool.api.host.get_allowed_operations(pool["h2"]))


STEPS: list[Step] = [
    lambda pool: pool.make_whole("a"),
    "`host.disable('<h2>',)` → ",
    Look(
        "allowed ['apply_updates', 'enable', 'evacuate', 'provision', 'reboot', 'shutdown', 'vm_migrate', 'vm_resume', 'vm_start']",
        operations_of_h2,
        [
            *("apply_updates", "enable", "evacuate", "provision", "reboot", "shutdown"),
            *("vm_migrate", "vm_resume", "vm_start"),
        ],
    ),
    "`VM.start_on('<a>', '<h2>', False, False)` → **['HOST_DISABLED', '<h2>']**",
    "`host.shutdown('<h1>',)` [enabled] → **['HOST_NOT_DISABLED']**",
    "`host.disable('<h1>',)` → ",
    "`VM.start('<a>', False, False)` [all hosts disabled] → **['NO_HOSTS_AVAILABLE']**",
    "`VM.get_possible_hosts('<a>',)` → []",
    "`host.enable('<h1>',)` → ",
    "`host.enable('<h2>',)` → ",
    "`host.enable('<h2>',)` [again] → ",
    "`VM.start_on('<a>', '<h1>', False, False)` → ",
    "`host.disable('<h1>',)` → ",
    "`host.evacuate('<h1>',)` → ",
    Look(
        "a is on <h2> h1 enabled False",
        lambda pool: (pool.where(pool["a"]), pool.enabled("h1")),
        ("h2", False),
    ),
    "`host.enable('<h1>',)` → ",
    "`host.evacuate('<h2>',)` [enabled host] → ",
    Look(
        "a is on <h1> h2 enabled True",
        lambda pool: (pool.where(pool["a"]), pool.enabled("h2")),
        ("h1", True),
    ),
    "`VM.pool_migrate('<a>', '<h1>', {})` [to its own host] → ",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_a_host_leaves_service_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
