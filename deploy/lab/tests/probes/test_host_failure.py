"""A host that fails and comes back without HA; leaving the pool; another coordinator; copies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http.client import HTTPException

import pytest
from XenAPI import XenAPI

from deploy.lab.tests.probes.conftest import RATE
from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play, probe


def make_a(pool: Pool) -> None:
    pool.make_whole("a")


def make_a2(pool: Pool) -> None:
    pool.make("a2")


def power_off_h3(pool: Pool) -> bool:
    pool.lab.do(lambda lab: lab.machine("h3").power_off())
    return pool.lab.do(lambda lab: not lab.machine("h3").answers)


def power_on_h3(pool: Pool) -> tuple[bool, bool]:
    """Time stands still from here on, so that the next looks see its moments."""
    pool.hurry(0)
    pool.lab.do(lambda lab: lab.machine("h3").power_on())
    pool.lab.clock.advance(0.2)
    return enabled_and_live(pool)


def enabled_and_live(pool: Pool) -> tuple[bool, bool]:
    return pool.enabled("h3"), pool.live("h3")


def after(seconds: float) -> Callable[[Pool], tuple[bool, bool]]:
    def look(pool: Pool) -> tuple[bool, bool]:
        pool.lab.clock.advance(seconds)
        return enabled_and_live(pool)

    return look


def freeze(pool: Pool) -> None:
    """From here on time passes only when a test moves it."""
    pool.hurry(0)


def go_on(pool: Pool) -> None:
    pool.hurry(RATE)


def state_of_a(vm: str) -> Callable[[Pool], tuple[str, bool, bool]]:
    return lambda pool: (pool.state(pool[vm]), pool.live("h3"), pool.enabled("h3"))


def enabled_again(pool: Pool) -> bool:
    power_on_h3(pool)
    before = pool.lab.clock.now()
    while not pool.enabled("h3"):
        pool.lab.clock.advance(0.5)
    go_on(pool)
    return 10 < pool.lab.clock.now() - before < 15


def fill_h3(pool: Pool) -> None:
    for vm in ("a", "a2"):
        if pool.state(pool[vm]) == "Running":
            pool.api.VM.hard_shutdown(pool[vm])
        pool.api.VM.start_on(pool[vm], pool["h3"], False, False)


FAILURE: list[Step] = [
    make_a,
    "`VM.start_on('<a>', '<h3>', False, False)` → ",
    Look("killed h3", power_off_h3, True),
    "`VM.clean_shutdown('<a>',)` → **['CANNOT_CONTACT_HOST', '<h3>']** (waits)",
    "`VM.hard_shutdown('<a>',)` → **['CANNOT_CONTACT_HOST', '<h3>']** (waits)",
    "`VM.power_state_reset('<a>',)` → ",
    Look("Halted live True enabled True", state_of_a("a"), ("Halted", True, True)),
    # the host comes back
    Look("+0.2s enabled,live = (True, True)", power_on_h3, (True, True)),
    Look("+9.8s enabled,live = (False, True)", after(11), (False, True)),
    Look("+12.4s enabled,live = (True, True)", after(2), (True, True)),
    go_on,
    Look(
        "address 192.0.2.3",
        lambda pool: pool.api.host.get_address(pool["h3"]) == pool.known["<address:h3>"],
        True,
    ),
    make_a2,
    "`VM.start_on('<a2>', '<h3>', False, False)` → ",
    "`VM.pool_migrate('<a2>', '<h2>', {})` → ",
    "`VM.pool_migrate('<a2>', '<h3>', {})` → ",
    # it fails again, and is declared dead
    power_off_h3,
    "`host.declare_dead('<h3>',)` → (waits)",
    Look("Halted live True enabled False", state_of_a("a2"), ("Halted", True, False)),
    lambda pool: pool.api.VM.set_affinity(pool["a2"], pool["h2"]),
    "`VM.start('<a2>', False, False)` → ",
    Look("<h2>", lambda pool: pool.where(pool["a2"]), "h2"),
    "`VM.start_on('<a2>', '<h3>', False, False)` → **['VM_BAD_POWER_STATE', '<a2>', 'halted', 'running']**",
    Look("h3 enabled True after 12.3s", enabled_again, True),
    "`VM.pool_migrate('<a2>', '<h3>', {})` → ",
    # it leaves the pool
    fill_h3,
    "`pool.eject('<h3>',)` [has a running VM] → **['OPERATION_NOT_ALLOWED', 'VM resident on host']**",
    "`host.evacuate('<h3>',)` → ",
]


@pytest.fixture(scope="module")
def failure(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(3), FAILURE)


@each_line(FAILURE)
def test_a_failed_host_is_found_out_as_probed(failure: Played, number: int) -> None:
    answer = failure[number]
    assert answer.given == answer.said


def logged_in_at(pool: Pool, host: int) -> XenAPI.Session:
    """A client of that host. Raises what the host answers while it does not serve."""
    session = XenAPI.Session(pool.lab.urls[host], ignore_ssl=True)
    try:
        session.login_with_password("root", pool.lab.password, "2.21", "t")
    except (XenAPI.Failure, OSError, HTTPException):
        session("close")()
        raise
    return session


def seconds_until_coordinator(pool: Pool, host: int) -> float:
    """Lab time until that host takes logins."""
    begun = pool.lab.clock.now()
    while pool.lab.clock.now() - begun < 60:
        pool.lab.clock.advance(1.0)
        with contextlib.suppress(XenAPI.Failure, OSError, HTTPException):
            logged_in_at(pool, host)("close")()
            return pool.lab.clock.now() - begun
    raise AssertionError(f"host {host + 1} does not take logins")


@probe(
    "`pool.designate_new_master('<>',)` →",
    "h2 answers as coordinator after 11s: h2",
    "[('h2', True), ('h1', True), ('h3', False)] Running",
    "login on h1 ['HOST_IS_SLAVE', '192.0.2.2']",
)
def test_another_host_takes_the_pool_over_and_vms_run_on(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(3)
    vm = pool.make_whole("a")
    pool.api.VM.start_on(vm, pool["h2"], False, False)
    freeze(pool)
    assert pool.call("pool.designate_new_master('<h2>',)") == ""
    assert 10 <= seconds_until_coordinator(pool, 1) <= 20
    pool.lab.clock.advance(10)
    go_on(pool)
    session = logged_in_at(pool, 1)
    api = session.xenapi
    try:
        assert api.host.get_name_label(api.pool.get_master(pool["pool"])) == "h2"
        assert {ref: api.host.get_enabled(ref) for ref in api.host.get_all()} == {
            pool[name]: True for name in ("h1", "h2", "h3")
        }
        assert api.VM.get_power_state(vm) == "Running"
    finally:
        session("close")()
    with pytest.raises(XenAPI.Failure) as refused:
        logged_in_at(pool, 0)
    assert refused.value.details == ["HOST_IS_SLAVE", pool.known["<address:h2>"]]


def make_c(pool: Pool) -> None:
    pool.make_whole("c")
    library = next(r for r, sr in pool.api.SR.get_all_records().items() if sr["type"] == "iso")
    pool.bind("iso", pool.api.SR.get_VDIs(library)[0])
    drive = pool.call(
        "VBD.create({'VM': '<c>', 'VDI': 'OpaqueRef:NULL', 'userdevice': '3', 'bootable': False, "
        "'mode': 'RO', 'type': 'CD', 'empty': True, 'other_config': {}, "
        "'qos_algorithm_type': '', 'qos_algorithm_params': {}},)"
    )
    pool.bind("drive", drive)


COPIES: list[Step] = [
    make_c,
    "`VM.copy('<c>', 'copy', '<nfs>')` → <copy>",
    "`VDI.copy('<c-vdi0>', '<local-h1>')` → <disk>",
    "`VM.start('<c>', False, False)` → ",
    "`VBD.insert('<drive>', '<iso>')` → ",
    Look("False", lambda pool: pool.api.VBD.get_empty(pool["drive"]), False),
    "`VBD.eject('<drive>',)` → ",
    Look("True", lambda pool: pool.api.VBD.get_empty(pool["drive"]), True),
]


@pytest.fixture(scope="module")
def copies(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), COPIES)


@each_line(COPIES)
def test_copies_and_discs_answer_as_probed(copies: Played, number: int) -> None:
    answer = copies[number]
    assert answer.given == answer.said
