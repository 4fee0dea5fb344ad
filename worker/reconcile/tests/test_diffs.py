"""The pure halves: what is seen, and what that leads to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from worker.reconcile.hosts import diff as hosts
from worker.reconcile.images import diff as images
from worker.reconcile.instances import diff as instances
from worker.reconcile.instances.diff import Act, Begin, pause_after
from worker.reconcile.orphans.diff import Disk, Ledger, Machine, Wire
from worker.reconcile.orphans.diff import diff as orphans
from worker.reconcile.quotas.diff import Wrong
from worker.reconcile.quotas.diff import diff as quotas

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = UUID(int=1)
RUNNING = instances.View(
    uuid=ONE,
    desired_state="running",
    restart_policy="always",
    is_published=True,
    host=UUID(int=2),
    power_state="Running",
    resident_on=UUID(int=2),
    is_known=True,
    started_at=NOW - timedelta(hours=1),
)


def begun(**changes: Any) -> Act | None:
    found = list(instances.diff([replace(RUNNING, **changes)], NOW))
    return found[0].act if found else None


@pytest.mark.parametrize(
    ("seen", "act"),
    [
        ({}, None),
        ({"resident_on": UUID(int=3)}, Act.ADOPT),
        ({"host": None}, Act.ADOPT),
        ({"resident_on": None}, None),
        ({"resident_on": UUID(int=3), "desired_state": "stopped"}, Act.STOP),
        ({"power_state": "Halted"}, Act.START),
        ({"power_state": None, "host": None}, Act.START),
        ({"power_state": None}, None),
        ({"power_state": None, "desired_state": "stopped"}, None),
        ({"power_state": None, "desired_state": "deleted"}, Act.TEARDOWN),
        ({"power_state": "Halted", "is_known": False}, None),
        ({"power_state": "Halted", "restart_policy": "never"}, Act.STOP),
        ({"power_state": "Halted", "restart_policy": "never", "host": None}, None),
        ({"power_state": "Halted", "restart_policy": "on-failure"}, Act.START),
        (
            {"power_state": "Halted", "restart_policy": "on-failure", "exit_code": 1},
            Act.START,
        ),
        (
            {"power_state": "Halted", "restart_policy": "on-failure", "exit_code": 0},
            Act.STOP,
        ),
        ({"desired_state": "stopped"}, Act.STOP),
        ({"desired_state": "stopped", "power_state": "Halted"}, Act.STOP),
        ({"desired_state": "stopped", "power_state": "Halted", "host": None}, None),
        ({"desired_state": "stopped", "is_known": False}, None),
        ({"desired_state": "deleted", "is_known": False}, Act.TEARDOWN),
        ({"is_published": False, "power_state": None}, None),
        ({"is_published": False, "was_taken_over": True}, Act.PROVISION),
        ({"is_published": False, "was_taken_over": True, "desired_state": "stopped"}, None),
    ],
)
def test_an_instance_that_is_not_as_wished_gets_what_makes_it_so(
    seen: dict[str, Any], act: Act | None
) -> None:
    assert begun(**seen) == act


def test_one_that_falls_over_and_over_is_started_ever_more_slowly() -> None:
    fallen = replace(RUNNING, power_state="Halted", restarts=3)
    pause = pause_after(3)
    at = NOW - pause + timedelta(seconds=1)
    assert not list(instances.diff([replace(fallen, started_at=at)], NOW))
    at -= timedelta(seconds=1)
    again = list(instances.diff([replace(fallen, started_at=at)], NOW))
    assert again == [Begin(ONE, Act.START, restarts=4)]
    assert pause_after(0) < pause < pause_after(99) == instances.LONGEST_PAUSE


def test_one_that_ran_long_begins_to_count_anew() -> None:
    (again,) = instances.diff([replace(RUNNING, power_state="Halted", restarts=9)], NOW)
    assert again.restarts == 1


@pytest.mark.parametrize(
    ("view", "act"),
    [
        (hosts.View(ONE, "accepting"), None),
        (hosts.View(ONE, "accepting", is_suspect=True), hosts.Act.RECOVER),
        (hosts.View(ONE, "draining", True, "host.evacuate"), hosts.Act.RECOVER),
        (hosts.View(ONE, "suspect", True, "host.recover"), None),
        (hosts.View(ONE, "suspect"), hosts.Act.RECOVER),
        (hosts.View(ONE, "fenced"), hosts.Act.RECOVER),
        (hosts.View(ONE, "draining"), hosts.Act.EVACUATE),
        (hosts.View(ONE, "draining", doing="host.evacuate"), None),
        (hosts.View(ONE, "dead"), None),
        (hosts.View(ONE, "maintenance"), None),
    ],
)
def test_a_host_gets_the_operation_that_its_state_asks_for(
    view: hosts.View, act: hosts.Act | None
) -> None:
    assert [one.act for one in hosts.diff([view])] == ([act] if act else [])


POOLS = frozenset({UUID(int=8), UUID(int=9)})


@pytest.mark.parametrize(
    ("view", "ready", "act"),
    [
        (images.View(ONE, "d"), POOLS, None),
        (images.View(ONE, "d"), {UUID(int=8)}, images.Act.IMPORT),
        (images.View(ONE, "d", failed_lately=True), set(), None),
        (images.View(ONE, None), set(), None),
        (images.View(ONE, "d", is_removed=True, has_needless_disks=True), POOLS, images.Act.REMOVE),
        (images.View(ONE, "d", is_removed=True), set(), None),
    ],
)
def test_an_image_is_on_every_pool_until_it_is_removed(
    view: images.View, ready: set[UUID], act: images.Act | None
) -> None:
    found = list(images.diff([view], POOLS, frozenset(("d", pool) for pool in ready)))
    assert [one.act for one in found] == ([act] if act else [])


def test_a_sum_that_its_rows_do_not_make_is_wrong() -> None:
    kept = {"host:a": {"memory": 5}, "host:b": {"memory": 0}, "host:c": {"memory": 1}}
    counted = {"host:a": {"memory": 5}}
    assert list(quotas(kept, counted)) == [Wrong("host:c", "memory", 1, 0)]


LIVES, IS_OVER, GOLDEN, VM = (UUID(int=number) for number in (20, 21, 22, 23))
NET, BLANK, BLANK_OVER = (UUID(int=number) for number in (24, 25, 26))
LEDGER = Ledger(
    segments={LIVES: NET},
    ended_segments=frozenset({IS_OVER}),
    living={LIVES: VM},
    ended=frozenset({IS_OVER}),
    digests=frozenset({"sha256:ours"}),
    sources=frozenset({GOLDEN}),
    blanks=frozenset({BLANK}),
    ended_blanks=frozenset({BLANK_OVER}),
)


@pytest.mark.parametrize(
    ("vm", "is_orphan"),
    [
        (Machine(VM, LIVES, is_halted=True, is_idle=True), False),
        (Machine(ONE, LIVES, is_halted=True, is_idle=True), True),
        (Machine(ONE, LIVES, is_halted=False, is_idle=True), False),
        (Machine(ONE, IS_OVER, is_halted=False, is_idle=True), True),
        (Machine(ONE, IS_OVER, is_halted=True, is_idle=False), False),
        (Machine(ONE, UUID(int=99), is_halted=True, is_idle=True), False),
    ],
)
def test_a_vm_is_an_orphan_when_the_ledger_knows_that_it_is_over(
    vm: Machine, is_orphan: bool
) -> None:
    assert (vm.uuid in orphans([vm], [], [], LEDGER).vms) is is_orphan


@pytest.mark.parametrize(
    ("vdi", "is_orphan"),
    [
        (Disk(ONE, is_attached=False, instance=IS_OVER, own=ONE), True),
        (Disk(ONE, is_attached=True, instance=IS_OVER, own=ONE), False),
        (Disk(ONE, is_attached=False, instance=LIVES, own=ONE), False),
        (Disk(ONE, is_attached=False, blank=BLANK_OVER, own=ONE), True),
        (Disk(ONE, is_attached=True, blank=BLANK_OVER, own=ONE), False),
        (Disk(ONE, is_attached=False, blank=BLANK, own=ONE), False),
        (Disk(ONE, is_attached=False, own=GOLDEN), True),
        (Disk(ONE, is_attached=False, own=UUID(int=98)), False),
        (Disk(ONE, is_attached=False, own=ONE, filling="sha256:ours"), True),
        (Disk(ONE, is_attached=False, own=ONE, filling="sha256:theirs"), False),
        (Disk(ONE, is_attached=False, own=ONE), False),
    ],
)
def test_a_disk_is_an_orphan_when_nothing_that_lives_can_want_it(
    vdi: Disk, is_orphan: bool
) -> None:
    assert (vdi.uuid in orphans([], [vdi], [], LEDGER).vdis) is is_orphan


def test_a_disk_that_is_being_filled_is_let_be() -> None:
    vdi = Disk(ONE, is_attached=False, own=ONE, filling="sha256:ours")
    assert not orphans([], [vdi], [], replace(LEDGER, imports=True)).vdis


@pytest.mark.parametrize(
    ("wire", "is_orphan"),
    [
        (Wire(NET, LIVES, is_used=False), False),
        (Wire(ONE, LIVES, is_used=False), True),
        (Wire(ONE, LIVES, is_used=True), False),
        (Wire(ONE, IS_OVER, is_used=False), True),
        (Wire(ONE, IS_OVER, is_used=True), False),
        (Wire(ONE, UUID(int=99), is_used=False), False),
    ],
)
def test_a_network_is_an_orphan_when_its_segment_is_over_or_has_another(
    wire: Wire, is_orphan: bool
) -> None:
    assert (wire.uuid in orphans([], [], [wire], LEDGER).networks) is is_orphan


def test_a_network_that_is_still_being_made_is_no_orphan() -> None:
    ledger = replace(LEDGER, segments={LIVES: None})
    assert not orphans([], [], [Wire(ONE, LIVES, is_used=False)], ledger).networks


def test_what_the_ledger_never_heard_of_is_a_stranger() -> None:
    vms = [Machine(ONE, UUID(int=99), is_halted=True, is_idle=True)]
    vdis = [Disk(ONE, is_attached=False, instance=UUID(int=97)), Disk(ONE, False, instance=LIVES)]
    vdis += [Disk(ONE, is_attached=False, blank=UUID(int=95)), Disk(ONE, False, blank=BLANK)]
    wires = [Wire(ONE, UUID(int=96), is_used=True), Wire(ONE, IS_OVER, is_used=False)]
    assert orphans(vms, vdis, wires, LEDGER).strangers == {
        UUID(int=99),
        UUID(int=97),
        UUID(int=96),
        UUID(int=95),
    }
