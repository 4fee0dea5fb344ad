"""High availability: arming, planning, refusing, and a host that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy.lab.tests.probes.conftest import RATE
from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def make_vms(pool: Pool) -> None:
    for name in ("c", "prot", "best", "unprot"):
        pool.make_whole(name)
    pool.make_whole("nonagile", sr="local-h1")
    pool.api.VM.start_on(pool["c"], pool["h2"], False, False)
    for name in ("prot", "best"):
        pool.api.VM.set_affinity(pool[name], pool["h2"])


def armed(pool: Pool) -> tuple[Any, ...]:
    record = pool.api.pool.get_record(pool["pool"])
    (statefile,) = record["ha_statefiles"]
    assert pool.api.VDI.get_SR(statefile) == pool["nfs"]
    return (
        record["ha_enabled"],
        record["ha_plan_exists_for"],
        record["ha_host_failures_to_tolerate"],
    )


def plan(pool: Pool) -> tuple[str, bool]:
    record = pool.api.pool.get_record(pool["pool"])
    return record["ha_plan_exists_for"], record["ha_overcommitted"]


def runs_always(vm: str) -> Callable[[Pool], bool]:
    return lambda pool: bool(pool.api.VM.get_ha_always_run(pool[vm]))


def kill_h3(pool: Pool) -> bool:
    """Time stands still from here on, so that the next looks see its moments."""
    pool.hurry(0)
    pool.lab.do(lambda lab: lab.machine("h3").power_off())
    return pool.lab.do(lambda lab: not lab.machine("h3").powered)


def after(seconds: float) -> Callable[[Pool], dict[str, Any]]:
    def look(pool: Pool) -> dict[str, Any]:
        pool.lab.clock.advance(seconds)
        vms = {name: _state_and_place(pool, name) for name in ("prot", "best", "unprot")}
        return {"live": pool.live("h3")} | vms

    return look


def when_the_second_one_gets_its_host(pool: Pool) -> dict[str, Any]:
    """That moment, which is about half a minute after the failure."""
    begun = pool.lab.clock.now()
    pool.lab.clock.advance(27.0)
    while pool.where(pool["best"]) != "h2":
        assert pool.lab.clock.now() - begun < 40
        pool.lab.clock.advance(0.02)
    return after(0)(pool)


def _state_and_place(pool: Pool, name: str) -> tuple[str, str]:
    state = pool.state(pool[name])
    return state, pool.where(pool[name]) or "-"


def go_on(pool: Pool) -> None:
    pool.hurry(RATE)


def told(pool: Pool) -> list[tuple[str, str, str, str]]:
    """The messages of starts and failures. Many have the same second: no order among them."""
    records = pool.api.message.get_all_records().values()
    shown = [m for m in records if m["name"] in ("VM_STARTED", "HA_HOST_FAILED")]
    return sorted((m["name"], m["priority"], m["cls"], _without_uuids(m["body"])) for m in shown)


def _without_uuids(body: str) -> str:
    return " ".join(word for word in body.split() if "(uuid:" not in word and "-" not in word)


def started(vm: str, host: str) -> tuple[str, str, str, str]:
    return ("VM_STARTED", "5", "VM", f"VM '{vm}' started on host: {host}")


STEPS: list[Step] = [
    make_vms,
    "`pool.enable_ha(['<nfs>'], {})` → ",
    Look("True ['<>'] 0 0", armed, (True, "0", "0")),
    "`pool.ha_compute_max_host_failures_to_tolerate()` → 3",
    "`VM.set_ha_restart_priority('<prot>', 'restart')` → ",
    "`VM.set_ha_restart_priority('<best>', 'best-effort')` → ",
    "`VM.start('<nonagile>', False, False)` → ",
    "`VM.set_ha_restart_priority('<nonagile>', 'restart')` → **['HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN']**",
    "`pool.set_ha_host_failures_to_tolerate('<pool>', '1')` → ",
    "`pool.ha_compute_max_host_failures_to_tolerate()` → 3",
    Look("plan for 1 overcommitted False", plan, ("1", False)),
    "`VM.start_on('<prot>', '<h3>', False, False)` → ",
    Look("True", runs_always("prot"), True),
    "`VM.start_on('<best>', '<h3>', False, False)` → ",
    Look("False", runs_always("best"), False),
    "`VM.start_on('<unprot>', '<h3>', False, False)` → ",
    Look("False", runs_always("unprot"), False),
    "`host.destroy('<h3>',)` → **['HOST_IS_LIVE', '<h3>']**",
    "`pool.eject('<h3>',)` → **['HA_IS_ENABLED']**",
    "`pool.set_ha_host_failures_to_tolerate('<pool>', '5')` → **['HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN']**",
    "`host.disable('<h2>',)` → ",
    "`host.enable('<h2>',)` → ",
    "`pool.ha_failover_plan_exists('1',)` → True",
    "`pool.ha_compute_vm_failover_plan(['<h3>'], ['<prot>'])` → {'<prot>': {'host': '<h2>'}}",
    Look("killing h3", kill_h3, True),
    Look(
        "+0.4s {'live': True, 'prot': ('Running', 'h3')",
        after(0.4),
        {
            "live": True,
            "prot": ("Running", "h3"),
            "best": ("Running", "h3"),
            "unprot": ("Running", "h3"),
        },
    ),
    Look(
        "+31.2s {'live': False, 'prot': ('Running', 'h2')",
        when_the_second_one_gets_its_host,
        {
            "live": False,
            "prot": ("Running", "h2"),
            "best": ("Halted", "h2"),
            "unprot": ("Halted", "-"),
        },
    ),
    Look(
        "+32.1s {'live': False, 'prot': ('Running', 'h2')",
        after(1.0),
        {
            "live": False,
            "prot": ("Running", "h2"),
            "best": ("Running", "h2"),
            "unprot": ("Halted", "-"),
        },
    ),
    go_on,
    Look(
        "[('VM_STARTED', '5', 'VM', \"VM 'c' (uuid:",
        told,
        [
            ("HA_HOST_FAILED", "3", "Host", "Server 'h3' has failed"),
            started("best", "h2"),
            started("best", "h3"),
            started("c", "h2"),
            started("nonagile", "h1"),
            started("prot", "h2"),
            started("prot", "h3"),
            started("unprot", "h3"),
        ],
    ),
    "`host.declare_dead('<h3>',)` → ",
    Look("False", lambda pool: pool.live("h3"), False),
    "`pool.ha_compute_max_host_failures_to_tolerate()` → 1",
    "`pool.disable_ha()` → (waits)",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(3), STEPS)


@each_line(STEPS)
def test_ha_keeps_its_promises_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
