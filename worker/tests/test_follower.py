"""One follower leads; pools, databases and brokers may go away and come back."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models.functions import Now

from hosting.alarms.models import Alarm
from hosting.alarms.services import open_alarm
from hosting.fleet import notices
from hosting.fleet.choices import PoolState
from hosting.fleet.models import Pool, PoolQuerySet, VirtualMachine
from hosting.fleet.tests.makers import make_host, make_pool
from hosting.operations.models import Operation
from worker import follower as following
from worker import mirror
from worker.follower import Follower, LeadLost, PoolForgotten, Stopped
from worker.hypervisor.port import Changes, HypervisorError, Unreachable
from worker.tests.test_mirror import told, vm_record

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Script:
    """A watcher that says what it is told to, and then nothing new."""

    lines: list[Changes | Exception] = field(default_factory=list)
    made: int = 0
    closed: int = 0

    def watch(self, pool: Pool) -> Script:
        self.made += 1
        return self

    def changes(self, timeout: timedelta) -> Changes:
        line = self.lines.pop(0) if self.lines else told()
        if isinstance(line, Exception):
            raise line
        return line

    def close(self) -> None:
        self.closed += 1


@dataclass
class Desk:
    """A follower, with all that it says and all its pauses written down."""

    pool: Pool
    script: Script = field(default_factory=Script)
    said: list[tuple[UUID, set[str]]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.follower = Follower(
            self.pool.pk,
            self.script.watch,
            publish=self.publish,
            pause=lambda time: self.pauses.append(time.total_seconds()),
        )

    def publish(self, pool: UUID, kinds: Collection[str]) -> None:
        self.said.append((pool, set(kinds)))

    def hear(self, *lines: Changes | Exception) -> Pool:
        self.script.lines += lines
        for _ in lines or [None]:
            self.follower.turn()
        self.pool.refresh_from_db()
        return self.pool


@pytest.fixture
def desk() -> Desk:
    return Desk(make_pool(state=PoolState.ENROLLED))


def test_what_it_hears_is_written_and_told(desk: Desk) -> None:
    pool = desk.hear(told(vm_record(), full=True))
    assert VirtualMachine.objects.count() == 1
    assert pool.state == PoolState.CONNECTED
    assert pool.last_seen_at is not None
    assert desk.said == [(pool.pk, {"vm", "pool"})]
    assert desk.pauses == []


def test_no_news_is_not_told_but_the_pool_was_seen(desk: Desk) -> None:
    seen = desk.hear(told(full=True)).last_seen_at
    desk.said.clear()
    assert desk.hear().last_seen_at != seen
    assert desk.said == []


def test_no_news_costs_one_update(desk: Desk, django_assert_num_queries: Any) -> None:
    desk.hear(told(full=True))
    with django_assert_num_queries(3):  # with the beginning and the end of a transaction
        desk.follower.turn()


def test_whoever_leads_again_closes_the_alarms_of_whoever_led_meanwhile(desk: Desk) -> None:
    desk.hear(told(full=True))
    Pool.objects.update(follower_token=uuid4(), state=PoolState.UNREACHABLE)
    open_alarm(f"pool-unreachable:{desk.pool.pk}", title="It does not answer")
    desk.hear(told())
    Pool.objects.update(followed_until=Now())
    assert desk.hear(told(full=True)).state == PoolState.CONNECTED
    assert desk.said[-1] == (desk.pool.pk, {"pool"})
    assert not Alarm.objects.standing().exists()


def test_the_mirror_is_dated_by_when_the_pool_was_asked(desk: Desk) -> None:
    class Slow(Script):
        def changes(self, timeout: timedelta) -> Changes:
            with connection.cursor() as cursor:
                cursor.execute("SELECT clock_timestamp()")
                self.answered_at = cursor.fetchone()[0]
            return told()

    slow = Slow()
    Follower(desk.pool.pk, slow.watch, publish=desk.publish).turn()
    desk.pool.refresh_from_db()
    assert desk.pool.mirrored_at is not None
    assert desk.pool.mirrored_at <= slow.answered_at
    assert slow.answered_at - desk.pool.mirrored_at < timedelta(seconds=5)


def test_operations_whose_world_changed_are_woken_in_the_same_commit(
    desk: Desk, rung: list[UUID]
) -> None:
    host = make_host(desk.pool)
    operation = Operation.objects.create(
        kind="host.evacuate", host=host, run_at=Now() + timedelta(hours=1)
    )
    desk.hear(told(vm_record(resident_on=host.pk)))
    assert Operation.objects.due().get() == operation
    assert rung == [operation.uuid]


# ---------------------------------------------------------------------------------------------- the lead


def test_the_second_stands_by_and_takes_over_when_the_lease_runs_out(desk: Desk) -> None:
    second = Desk(desk.pool)
    desk.hear(told(full=True))
    second.hear()
    assert second.script.made == 0
    assert second.pauses == [3.0]
    Pool.objects.update(followed_until=Now())
    second.hear(told(vm_record(), full=True))
    assert VirtualMachine.objects.exists()
    assert desk.hear(told(full=True)).state == PoolState.CONNECTED
    assert VirtualMachine.objects.exists(), "the first has lost the lead and must not write"


def test_a_leader_keeps_its_lead_by_turning(desk: Desk) -> None:
    desk.hear(told(full=True))
    Pool.objects.update(followed_until=Now() + timedelta(seconds=1))
    pool = desk.hear()
    left = Pool.objects.annotate(now=Now()).get()
    assert timedelta(seconds=25) < pool.followed_until - left.now  # type: ignore[attr-defined]


def test_one_that_lost_the_lead_while_it_listened_writes_nothing(desk: Desk) -> None:
    desk.hear(told(full=True))

    class Robbed(Script):
        def changes(self, timeout: timedelta) -> Changes:
            Pool.objects.update(follower_token=uuid4())
            return told(vm_record())

    robbed = Robbed()
    desk.follower._watcher = robbed
    desk.follower.turn()
    assert not VirtualMachine.objects.exists()
    assert robbed.closed == 1, "what it hears next must be everything"


def test_who_leads_again_hears_everything_again(desk: Desk) -> None:
    desk.hear(told(full=True))
    token = Pool.objects.get().follower_token
    Pool.objects.update(follower_token=uuid4())
    desk.hear()
    assert desk.script.closed == 1
    Pool.objects.update(follower_token=token)
    desk.hear(told(full=True))
    assert desk.script.made == 2


def test_of_many_followers_one_leads(desk: Desk) -> None:
    gate, won = threading.Barrier(6), list[bool]()

    def compete() -> None:
        gate.wait(timeout=10)
        pools: PoolQuerySet = Pool.objects.filter(pk=desk.pool.pk)
        won.append(pools.take_lead(uuid4(), timedelta(seconds=30)))
        connection.close()

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert won.count(True) == 1


def test_mirroring_once_lets_go_of_the_lead(desk: Desk) -> None:
    desk.script.lines = [told(vm_record(), full=True)]
    assert desk.follower.once()
    assert VirtualMachine.objects.exists()
    assert Desk(desk.pool).hear(told()).follower_token is not None


def test_mirroring_once_leaves_a_leader_alone(desk: Desk) -> None:
    desk.hear(told(full=True))
    second = Desk(desk.pool)
    assert not second.follower.once()
    assert Pool.objects.get().follower_token == desk.follower._token


# ------------------------------------------------------------------------------------------ pools go away


def test_a_silent_pool_is_unreachable_at_once_and_told_once(desk: Desk) -> None:
    desk.hear(told(full=True))
    desk.said.clear()
    pool = desk.hear(Unreachable("timeout"), Unreachable("timeout"))
    assert pool.state == PoolState.UNREACHABLE
    assert desk.said == [(pool.pk, {"pool"})]
    assert not Alarm.objects.exists()


def test_it_is_an_alarm_after_three_minutes_and_closes_by_itself(desk: Desk) -> None:
    desk.hear(told(full=True))
    Pool.objects.update(last_seen_at=Now() - timedelta(seconds=170))
    desk.hear(Unreachable("timeout"))
    assert not Alarm.objects.exists()
    Pool.objects.update(last_seen_at=Now() - timedelta(seconds=181))
    desk.hear(Unreachable("timeout"), Unreachable("timeout"))
    alarm = Alarm.objects.get()
    assert (alarm.tag, alarm.is_standing) == (f"pool-unreachable:{desk.pool.pk}", True)
    desk.hear(told())
    alarm.refresh_from_db()
    assert not alarm.is_standing


def test_a_pool_that_never_answered_is_counted_from_its_enrolment(desk: Desk) -> None:
    Pool.objects.update(created_at=Now() - timedelta(seconds=181))
    desk.hear(Unreachable("timeout"))
    assert Alarm.objects.exists()


def test_an_alarm_left_by_a_follower_that_died_is_closed_by_the_next(desk: Desk) -> None:
    Pool.objects.update(created_at=Now() - timedelta(seconds=181))
    desk.hear(Unreachable("timeout"))
    Pool.objects.update(followed_until=Now())
    Desk(desk.pool).hear(told(full=True))
    assert not Alarm.objects.standing().exists()


def test_pauses_grow_and_end_with_the_trouble(desk: Desk) -> None:
    desk.hear(*[Unreachable("timeout")] * 8)
    assert all(
        low <= pause <= high
        for pause, low, high in zip(
            desk.pauses, [1, 2, 4, 7.5, 7.5], [2, 4, 8, 15, 15], strict=False
        )
    )
    assert max(desk.pauses) <= 15
    desk.pauses.clear()
    desk.hear(told(), told())
    assert desk.pauses == []


def test_a_watcher_survives_an_outage_and_goes_on(desk: Desk) -> None:
    desk.hear(told(full=True), Unreachable("timeout"), told(vm_record()))
    assert desk.script.made == 1
    assert VirtualMachine.objects.exists()


@pytest.mark.parametrize("errors", [[Unreachable("credentials")], [Unreachable("timeout")] * 5])
def test_the_row_is_read_again_when_credentials_may_be_wrong(
    desk: Desk, errors: list[HypervisorError]
) -> None:
    desk.hear(told(full=True), *errors)
    desk.hear(told(full=True))
    assert desk.script.made == 2


# -------------------------------------------------------------------------------------- others go away


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_what_could_not_be_written_is_heard_again_in_full(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "apply", broken)
        desk.hear(told(full=True))
    assert (desk.script.closed, len(desk.pauses)) == (1, 1)
    assert not Alarm.objects.exists()
    desk.hear(told(vm_record(), full=True))
    assert desk.script.made == 2
    assert VirtualMachine.objects.exists()


def test_it_comes_back_after_the_database_dropped_its_connection(desk: Desk) -> None:
    desk.hear(told(full=True))
    with connection.cursor() as cursor, pytest.raises(OperationalError):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    desk.follower.turn()
    desk.follower.turn()
    assert desk.hear(told(vm_record(), full=True)).is_reachable
    assert VirtualMachine.objects.exists()


def test_a_fault_of_ours_is_an_alarm_until_it_is_gone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "apply", faulty)
        desk.hear(told(full=True))
    assert Alarm.objects.standing().get().tag == f"follower-broken:{desk.pool.pk}"
    desk.hear(told(full=True))
    assert not Alarm.objects.standing().exists()


def test_a_fault_of_ours_during_an_outage_of_the_database_does_not_end_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    def gone(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(mirror, "apply", faulty)
    monkeypatch.setattr(following, "open_alarm", gone)
    desk.hear(told(full=True))
    assert len(desk.pauses) == 1


def test_a_pool_that_was_removed_ends_it(desk: Desk) -> None:
    desk.hear(told(full=True))
    Pool.objects.all().delete()
    with pytest.raises(PoolForgotten):
        desk.follower.run()


# ------------------------------------------------------------------------------------------------ stopping


def test_told_to_stop_it_leaves_the_lead_to_another(desk: Desk) -> None:
    class Last(Script):
        def changes(self, timeout: timedelta) -> Changes:
            desk.follower.stop.set()
            return told(vm_record())

    desk.follower._watcher = last = Last()
    desk.follower.run()
    assert VirtualMachine.objects.exists(), "what was heard is written first"
    assert last.closed == 1
    assert Pool.objects.get().follower_token is None


def test_a_signal_ends_the_waiting_at_once(desk: Desk) -> None:
    class Waiting(Script):
        def changes(self, timeout: timedelta) -> Changes:
            desk.follower.interrupt()
            raise AssertionError("the signal's handler comes back only when nothing is waited for")

    desk.follower._watcher = Waiting()
    desk.follower.run()
    assert Pool.objects.get().follower_token is None


def test_a_signal_while_it_writes_lets_it_finish(desk: Desk) -> None:
    desk.follower.interrupt()
    assert desk.follower.stop.is_set()


def test_signals_reach_the_follower(desk: Desk) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with following.stopping_on_signals(desk.follower):
        os.kill(os.getpid(), signal.SIGTERM)
    assert desk.follower.stop.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_database_that_is_away_does_not_keep_it_from_ending(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(PoolQuerySet, "give_up_lead", gone)
    desk.follower.stop.set()
    desk.follower.run()


def test_it_waits_for_the_stop_and_no_longer() -> None:
    follower = Follower(uuid4(), Script().watch)
    follower.stop.set()
    follower._pause(timedelta(hours=1))


def test_its_errors_are_not_mistaken_for_faults() -> None:
    assert not issubclass(Stopped, Exception)
    assert issubclass(LeadLost, Exception)


# ------------------------------------------------------------------------------------------------- notices


def test_pages_hear_that_something_changed(desk: Desk) -> None:
    client: Any = redis.Redis.from_url(settings.REDIS_URL)
    with client.pubsub() as pages:
        pages.subscribe(notices.channel_of(desk.pool.pk))
        assert pages.get_message(timeout=5) is not None
        notices.publish_change(desk.pool.pk, {"vm", "host"})
        message = pages.get_message(timeout=5)
    client.close()
    assert message is not None
    assert json.loads(message["data"]) == {"pool": str(desk.pool.pk), "kinds": ["host", "vm"]}


def test_a_redis_that_is_away_harms_nothing(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    notices.publish_change(uuid4(), {"vm"})
