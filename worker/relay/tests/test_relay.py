"""What guests write is kept, once, whatever moves, ends or goes away meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import OperationalError

from hosting.compute.output import MOST_LINES, Written, append_lines, forget_lines, last_lines
from hosting.errors import Unavailable
from hosting.fleet.models import VirtualMachine
from hosting.fleet.tests.makers import make_pool, make_vm
from worker.follower import PoolForgotten, stopping_on_signals
from worker.hypervisor.port import Unreachable
from worker.relay import relay as relaying
from worker.relay.guest import BURST_BYTES, LONGEST_PAUSE, OPENING_SECONDS, STEADY
from worker.relay.lead import LEASE, Lead
from worker.relay.relay import Relay, redis_client
from worker.relay.tests.consoles import since
from worker.relay.tests.desk import Desk
from worker.relay.text import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)

MORNING = datetime(2030, 1, 1, 8, tzinfo=UTC)


def kept(vm: VirtualMachine) -> list[str]:
    assert vm.instance_uuid is not None
    return [line.text for line in last_lines(vm.instance_uuid)]


def test_what_a_running_instance_writes_is_kept(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    screen.show(b"\x1b[32mready\x1b[0m\r\nto serve\r\n")
    desk.pass_by()
    assert kept(vm) == ["ready", "to serve"]


def test_only_running_instances_of_ours_are_read(desk: Desk) -> None:
    for given in ({}, {"instance_uuid": uuid4(), "power_state": "Halted"}):
        desk.consoles.add(make_vm(desk.pool, **given).pk)
    desk.consoles.add(make_vm(make_pool(), instance_uuid=uuid4()).pk)
    desk.pass_by()
    assert desk.consoles.asked == 0


def test_a_line_without_an_end_is_kept_after_a_second(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    screen.show(b"login: ")
    desk.pass_by(PATIENCE / 2)
    assert kept(vm) == []
    desk.pass_by(PATIENCE)
    assert kept(vm) == ["login: "]


def test_it_goes_on_when_a_console_ends(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    screen.show(b"one\ntw")
    desk.relay.turn(0)
    screen.hang_up()
    desk.pass_by()
    screen.show(b"three\n")
    desk.pass_by()
    assert kept(vm) == ["one", "tw", "three"]


def test_what_a_console_shows_again_is_kept_once(desk: Desk) -> None:
    vm, screen = desk.guest(replays=True)
    screen.show(b"booting\n")
    desk.pass_by()
    screen.show(b"working\n")
    desk.pass_by()
    screen.hang_up()
    screen.show(b"missed\n")
    desk.pass_by()
    assert kept(vm) == ["booting", "working", "missed"]


def test_another_relay_knows_what_the_first_one_kept(desk: Desk) -> None:
    vm, screen = desk.guest(replays=True)
    screen.show(b"booting\nworking\n")
    desk.pass_by()
    desk.leave(desk.relay)
    screen.show(b"missed\n")
    desk.relay = desk.another()
    desk.pass_by()
    assert kept(vm) == ["booting", "working", "missed"]


def test_the_same_words_after_another_start_are_new(desk: Desk) -> None:
    vm, screen = desk.guest(replays=True)
    screen.record = since(MORNING, vm.pk)
    screen.show(b"no database: giving up\n")
    desk.pass_by()
    screen.hang_up()
    screen.shown = b""
    screen.record = since(MORNING.replace(hour=9), vm.pk)
    screen.show(b"no database: giving up\n")
    desk.pass_by()
    assert kept(vm) == ["no database: giving up"] * 2


def test_a_vm_that_moved_is_read_where_it_is_now(desk: Desk) -> None:
    before, after = uuid4(), uuid4()
    vm, screen = desk.guest()
    screen.record = since(MORNING, vm.pk, before)
    VirtualMachine.objects.update(resident_on=before)
    desk.pass_by()
    old = screen.ends.pop()
    screen.record = since(MORNING, vm.pk, after)
    VirtualMachine.objects.update(resident_on=after)
    desk.pass_by()
    assert old.recv(1) == b""
    old.close()
    screen.show(b"here now\n")
    desk.pass_by()
    assert kept(vm) == ["here now"]


def test_an_instance_that_stopped_is_let_go_with_its_last_words(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    screen.show(b"bye")
    desk.relay.turn(0)
    VirtualMachine.objects.update(power_state="Halted")
    desk.pass_by()
    assert kept(vm) == ["bye"]
    asked = desk.consoles.asked
    desk.pass_by(20)
    assert desk.consoles.asked == asked


def test_a_pool_that_does_not_answer_is_asked_less_and_less_often(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.consoles.error = Unreachable("timeout")
    desk.pass_by(300)
    assert 300 / LONGEST_PAUSE <= desk.consoles.asked <= 40
    desk.consoles.error = None
    desk.pass_by(LONGEST_PAUSE + 1)
    screen.show(b"back\n")
    desk.pass_by()
    assert kept(vm) == ["back"]


def test_news_of_a_vm_end_the_wait(desk: Desk) -> None:
    desk.guest()
    desk.consoles.error = Unreachable("timeout")
    desk.pass_by(100)
    asked = desk.consoles.asked
    desk.relay._guests[VirtualMachine.objects.get().pk].due = desk.now + 1000
    VirtualMachine.objects.update(resident_on=uuid4())
    desk.pass_by()
    assert desk.consoles.asked > asked


def test_a_console_that_held_begins_with_the_shortest_pause_again(desk: Desk) -> None:
    _, screen = desk.guest()
    desk.consoles.error = Unreachable("timeout")
    desk.pass_by(100)
    desk.consoles.error = None
    desk.pass_by(LONGEST_PAUSE + STEADY + 1)
    screen.hang_up()
    desk.pass_by(1)
    assert len(screen.ends) == 1


def test_who_floods_is_cut_and_told_and_others_are_heard(desk: Desk) -> None:
    loud, flood = desk.guest()
    quiet, screen = desk.guest()
    desk.pass_by()
    for _ in range(20):
        flood.show(b"x" * 900 + b"\n")
    screen.show(b"a word\n")
    for _ in range(40):
        flood.show((b"y" * 99 + b"\n") * 200)
        desk.relay.turn(0)
    desk.pass_by(2)
    assert kept(quiet) == ["a word"]
    assert "bytes left out: more than 16 KiB a second]" in kept(loud)[-1]
    flood.show(b"calm again\n")
    desk.pass_by(2 + BURST_BYTES / 16384)
    assert kept(loud)[-1] == "calm again"


def test_a_flood_of_empty_lines_costs_too(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    for _ in range(10):
        screen.show(b"\n" * 16384)
        desk.relay.turn(0)
    desk.pass_by(2)
    assert kept(vm) == ["[163840 bytes left out: more than 16 KiB a second]"]


def test_a_long_story_told_at_once_keeps_its_end(desk: Desk) -> None:
    vm, screen = desk.guest(replays=True)
    screen.show(b"".join(b"line %d\n" % number for number in range(4000)))
    desk.pass_by()
    assert kept(vm) == [f"line {number}" for number in range(4000 - MOST_LINES, 4000)]


def test_one_relay_leads(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    first, desk.relay = desk.relay, desk.another()
    desk.pass_by()
    assert len(screen.ends) == 1
    desk.leave(first)
    desk.pass_by(5)
    screen.show(b"said once\n")
    desk.pass_by()
    assert kept(vm) == ["said once"]


def test_who_lost_the_lead_writes_nothing_more(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    screen.show(b"read, not kept yet\n")
    redis_client().set(f"bulkhead:relay:{desk.pool.pk}", "another", px=60_000)
    desk.now += LEASE.total_seconds()  # a pause in which ours ran out
    desk.pass_by()
    assert kept(vm) == []
    redis_client().delete(f"bulkhead:relay:{desk.pool.pk}")
    desk.pass_by(10)
    screen.show(b"leading again\n")
    desk.pass_by()
    assert kept(vm) == ["leading again"]


def away(*_: object, **__: object) -> None:
    raise redis.ConnectionError("away")


def no_redis(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("away")

    patch.setattr(relaying, "append_lines", refuse)
    patch.setattr(relaying, "lines_since_start", refuse)
    patch.setattr(Lead, "hold", away)


def test_it_endures_a_redis_that_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    with monkeypatch.context() as patch:
        no_redis(patch)
        screen.show(b"meanwhile\n")
        desk.pass_by(2 * LEASE.total_seconds())
    desk.pass_by(5)
    assert kept(vm) == ["meanwhile"]


def test_it_endures_a_database_that_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    vm, screen = desk.guest()
    desk.pass_by()

    def fail(*_: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Relay, "_running", fail)
        screen.show(b"meanwhile\n")
        desk.pass_by(5)
        assert kept(vm) == ["meanwhile"]
    desk.guest()
    desk.pass_by()
    assert len(desk.relay._guests) == 2


def test_a_bug_of_ours_costs_one_console_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, _ = desk.guest()
    vm, screen = desk.guest()
    real = desk.consoles.vm

    def fail(uuid: UUID) -> object:
        if uuid == broken.pk:
            raise KeyError("ours")
        return real(uuid)

    monkeypatch.setattr(desk.consoles, "vm", fail)
    desk.pass_by()
    screen.show(b"hello\n")
    desk.pass_by()
    assert kept(vm) == ["hello"]


def test_a_pool_that_was_forgotten_ends_it(desk: Desk) -> None:
    desk.pass_by()
    desk.pool.delete()
    with pytest.raises(PoolForgotten):
        desk.pass_by()


def test_a_stop_keeps_what_was_read(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by()
    screen.show(b"last words")
    desk.relay.turn(0)
    desk.relay.interrupt()
    desk.relay.run()
    desk.relays.clear()
    assert kept(vm) == ["last words"]
    assert desk.another()._lead.hold()


def test_consoles_of_one_host_are_opened_a_few_at_a_time(desk: Desk) -> None:
    """A host that hangs must leave openers for the others."""
    host, waiting = uuid4(), list[Callable[[], None]]()
    desk.relay._in_background = waiting.append
    for number in range(5):
        vm, _ = desk.guest()
        if number:
            VirtualMachine.objects.filter(pk=vm.pk).update(resident_on=host)
    desk.pass_by()
    assert len(waiting) == 3


def test_forgotten_lines_stay_forgotten(desk: Desk) -> None:
    vm, _ = desk.guest()
    assert vm.instance_uuid is not None
    append_lines(vm.instance_uuid, [Written("secret")])
    forget_lines(vm.instance_uuid)
    desk.pass_by()
    assert kept(vm) == []


def test_an_opening_is_over_after_half_a_second(desk: Desk) -> None:
    vm, screen = desk.guest()
    desk.pass_by(OPENING_SECONDS * 3)
    screen.show(b"soon\n")
    desk.pass_by(0.5)
    assert kept(vm) == ["soon"]


def test_a_signal_ends_it(desk: Desk) -> None:
    """By a signal, which comes when it leads."""

    class Leading(Lead):
        def hold(self) -> bool:
            held = super().hold()
            os.kill(os.getpid(), signal.SIGTERM)
            return held

    relay = desk.another(Leading(desk.pool.pk, redis_client()))
    with stopping_on_signals(relay):
        relay.run()
    desk.relays.remove(relay)
    assert relay.stop.is_set()


def test_the_command_knows_pools_by_name(desk: Desk) -> None:
    with pytest.raises(CommandError, match="no pool 'nowhere' is enrolled"):
        call_command("relay", "nowhere")
