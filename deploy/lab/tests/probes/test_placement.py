"""Where VMs start, and why they do not: memory, CPUs, storage, affinity."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.lab.samples import GIB
from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def starts(times: int, affinity: str = "") -> Callable[[Pool], list[str]]:
    """Where the VM is when it is started that often."""

    def start(pool: Pool) -> list[str]:
        pool.api.VM.set_affinity(pool["a"], pool[affinity] if affinity else "OpaqueRef:NULL")
        return [_start_and_stop(pool) for _ in range(times)]

    return start


def prefers_h2(pool: Pool) -> bool:
    """The host is drawn at random, with a bias against the coordinator (vm_placement.ml)."""
    return starts(41)(pool).count("h2") > 20


def _start_and_stop(pool: Pool) -> str:
    pool.api.VM.start(pool["a"], False, False)
    where = pool.where(pool["a"])
    pool.api.VM.hard_shutdown(pool["a"])
    return where


def make_the_large_ones(pool: Pool) -> None:
    pool.make("m40", memory=40 * GIB, affinity=pool["h1"])
    pool.make("m40b", memory=40 * GIB)
    pool.make("m40c", memory=40 * GIB)


def make_the_one_with_a_local_disk(pool: Pool) -> None:
    for name in ("m40", "m40b"):
        pool.api.VM.hard_shutdown(pool[name])
    pool.make_whole("l", sr="local-h1")


def start_a(pool: Pool) -> None:
    pool.make_whole("a")
    pool.api.VM.start_on(pool["a"], pool["h1"], False, False)


STEPS: list[Step] = [
    start_a,
    "`VM.hard_shutdown('<a>',)` → ",
    Look("affinity h1 → ['h1', 'h1', 'h1', 'h1']", starts(4, "h1"), ["h1"] * 4),
    Look("affinity h2 → ['h2', 'h2', 'h2', 'h2']", starts(4, "h2"), ["h2"] * 4),
    Look("no affinity → ['h2', 'h2', 'h2', 'h2', 'h2', 'h2']", prefers_h2, True),
    lambda pool: pool.make("big", memory=100 * GIB),
    "`VM.start('<big>', False, False)` [100 GiB on 64 GiB hosts] → **['NO_HOSTS_AVAILABLE']**",
    "`VM.start_on('<big>', '<h1>', False, False)` → **['HOST_NOT_ENOUGH_FREE_MEMORY', '108216188928', '65870495744']**",
    "`VM.get_possible_hosts('<big>',)` → []",
    "`VM.assert_can_boot_here('<big>', '<h1>')` → **['HOST_NOT_ENOUGH_FREE_MEMORY', '108216188928', '65870495744']**",
    make_the_large_ones,
    "`VM.start('<m40>', False, False)` → ",
    "`VM.start('<m40b>', False, False)` → ",
    "`VM.start('<m40c>', False, False)` → **['NO_HOSTS_AVAILABLE']**",
    "`VM.pool_migrate('<m40>', '<h2>', {})` [target has not enough memory] → **['HOST_NOT_ENOUGH_FREE_MEMORY', '43288363008', '22582132736']**",
    "`host.get_vms_which_prevent_evacuation('<h1>',)` → {'<m40>': ['HOST_NOT_ENOUGH_FREE_MEMORY', '<m40>']}",
    "`host.evacuate('<h1>',)` → **['HOST_NOT_ENOUGH_FREE_MEMORY', '<m40>']**",
    "`host.compute_free_memory('<h2>',)` → 22582132736",
    lambda pool: pool.make("cpus", vcpus=17),
    "`VM.start('<cpus>', False, False)` [17 vCPUs on 16 CPUs] → **['NO_HOSTS_AVAILABLE']**",
    "`VM.start_on('<cpus>', '<h1>', False, False)` → **['HOST_NOT_ENOUGH_PCPUS', '17', '16']**",
    make_the_one_with_a_local_disk,
    "`VM.start_on('<l>', '<h2>', False, False)` [disk on local SR of h1] → **['VM_REQUIRES_SR', '<l>', '<local-h1>']**",
    "`VM.start('<l>', False, False)` → ",
    Look("on <h1>", lambda pool: pool.where(pool["l"]), "h1"),
    "`VM.pool_migrate('<l>', '<h2>', {})` → **['VM_REQUIRES_SR', '<l>', '<local-h1>']**",
    "`host.get_vms_which_prevent_evacuation('<h1>',)` → {'<l>': ['VM_REQUIRES_SR', '<l>', '<local-h1>']}",
    "`host.evacuate('<h1>',)` → **['VM_REQUIRES_SR', '<l>', '<local-h1>']**",
    "`VM.assert_can_migrate('<l>', {'host': '<h2>'}, True, {}, {}, {})` → **['INTERNAL_ERROR', 'Not_found']**",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_a_vm_starts_where_it_can(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
