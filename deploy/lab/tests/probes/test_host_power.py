"""Reboot, shutdown and power-on of hosts, and leaving the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.lab.tests.probes.conftest import RATE
from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play

ALLOWED = ["enable", "evacuate", "shutdown", "vm_start"]


def freeze(pool: Pool) -> None:
    """From here on time passes only at a look."""
    pool.hurry(0)


def go_on(pool: Pool) -> None:
    pool.hurry(RATE)


def state(pool: Pool) -> tuple[bool, bool]:
    return pool.enabled("h3"), pool.live("h3")


def operations(pool: Pool) -> list[str]:
    return list(pool.api.host.get_current_operations(pool["h3"]).values())


def after(seconds: float, *reads: Callable[[Pool], Any]) -> Callable[[Pool], tuple[Any, ...]]:
    """Enabled, live and what else is read so much later."""

    def look(pool: Pool) -> tuple[Any, ...]:
        pool.lab.clock.advance(seconds)
        return (*state(pool), *(read(pool) for read in reads))

    return look


def allowed(pool: Pool) -> list[str]:
    return sorted(pool.api.host.get_allowed_operations(pool["h3"]))


STEPS: list[Step] = [
    "`host.disable('<h3>',)` → ",
    freeze,
    "`host.reboot('<h3>',)` → ",
    Look(
        "+0.2s enabled, live, ops = (False, True, ['shutdown'])",
        after(0.2, operations),
        (False, True, ["shutdown"]),
    ),
    Look(
        "+11.1s enabled, live, ops = (False, False, ['shutdown'])",
        after(10.9, operations),
        (False, False, ["shutdown"]),
    ),
    Look(
        "+24.6s enabled, live, ops = (False, True, [])",
        after(10.5, operations),
        (False, True, []),
    ),
    Look(
        "+26.6s enabled, live, ops = (True, True, [])",
        after(2.5, operations),
        (True, True, []),
    ),
    go_on,
    "`host.disable('<h3>',)` → ",
    "`host.set_power_on_mode('<h3>', 'custom', {})` → ",
    "`host.power_on('<h3>',)` [live] → **['HOST_IS_LIVE', '<h3>']**",
    freeze,
    "`host.shutdown('<h3>',)` → ",
    Look(
        "+0.2s enabled, live, ops, allowed = (False, True, ['shutdown'], ['enable', 'evacuate', 'shutdown', 'vm_start'])",
        after(0.2, operations, allowed),
        (False, True, ["shutdown"], ALLOWED),
    ),
    Look(
        "+11.0s enabled, live, ops, allowed = (False, False, ['shutdown'], ['enable', 'evacuate', 'power_on', 'shutdown', 'vm_start'])",
        after(10.8, operations, allowed),
        (False, False, ["shutdown"], sorted([*ALLOWED, "power_on"])),
    ),
    "`host.power_on('<h3>',)` → ",
    Look("+0.1s enabled, live = (False, False)", after(0.1), (False, False)),
    Look("+12.1s enabled, live = (False, True)", after(11), (False, True)),
    Look("+14.0s enabled, live = (True, True)", after(2), (True, True)),
    go_on,
    "`pool.eject('<h3>',)` → ",
    Look("2 hosts", lambda pool: len(pool.api.host.get_all()), 2),
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(3), STEPS)


@each_line(STEPS)
def test_a_hosts_power_follows_its_calls_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
