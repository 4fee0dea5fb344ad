"""Alarms that open and close by themselves."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from hosting.alarms.models import Alarm
from hosting.alarms.services import open_alarm
from hosting.fleet.models import Host, Pool
from hosting.fleet.tests.makers import make_host
from hosting.operations.attention import raise_and_close_alarms
from hosting.operations.choices import State, Trouble, What
from hosting.operations.models import Operation, OperationEvent
from hosting.warm.models import WarmPolicy
from hosting.warm.tests.makers import SIZES, make_blank

pytestmark = pytest.mark.django_db


@pytest.fixture
def operation() -> Operation:
    host = make_host()
    Pool.objects.update(followed_until=Now() + timedelta(hours=1))
    return Operation.objects.create(kind="host.evacuate", step="empty", host=host)


def standing() -> list[str]:
    raise_and_close_alarms()
    return [alarm.tag for alarm in Alarm.objects.standing()]


@pytest.mark.parametrize(
    ("bad", "good", "code"),
    [
        ({"deadline_at": Now()}, {"deadline_at": Now() + timedelta(hours=1)}, "operation-late"),
        ({"deadline_at": Now()}, {"state": State.SUCCEEDED, "ended_at": Now()}, "operation-late"),
        ({"trouble": Trouble.STUCK}, {"trouble": ""}, "operation-stuck"),
        ({"trouble": Trouble.STUCK}, {"trouble": Trouble.BUSY}, "operation-stuck"),
        ({"attempt": 3}, {"attempt": 0}, "step-kills-workers"),
        ({"attempt": 3}, {"trouble": Trouble.UNREACHABLE}, "step-kills-workers"),
    ],
)
def test_it_opens_with_its_cause_and_closes_with_it(
    operation: Operation, bad: dict[str, Any], good: dict[str, Any], code: str
) -> None:
    assert standing() == []
    Operation.objects.update(**bad)
    assert standing() == [f"{code}:{operation.uuid}"]
    assert standing() == [f"{code}:{operation.uuid}"]
    assert Alarm.objects.get().times == 1
    Operation.objects.update(**good)
    assert standing() == []
    assert Alarm.objects.get().closed_at is not None


def test_a_faulty_step_opens_one_alarm_however_many_it_holds_up(operation: Operation) -> None:
    other = Operation.objects.create(kind="host.evacuate", step="empty", host=make_host())
    for one in (operation, other):
        OperationEvent.objects.note(one, What.RETRYING, private="Traceback\n  x\nKeyError: 'vm'")
        OperationEvent.objects.note(one, What.WAITING, "later")
    Pool.objects.update(followed_until=Now() + timedelta(hours=1))
    Operation.objects.update(trouble=Trouble.BUG)
    assert standing() == ["step-broken:host.evacuate.empty"]
    assert Alarm.objects.get().detail == "KeyError: 'vm'"
    Operation.objects.filter(pk=other.pk).update(trouble="")
    assert len(standing()) == 1
    Operation.objects.update(trouble="")
    assert standing() == []


def test_a_fault_without_a_journal_still_opens_one(operation: Operation) -> None:
    Operation.objects.update(trouble=Trouble.BUG)
    assert standing() == ["step-broken:host.evacuate.empty"]


def test_a_changed_reason_is_told(operation: Operation) -> None:
    Operation.objects.update(deadline_at=Now(), detail="no room")
    standing()
    Operation.objects.update(detail="no host at all")
    standing()
    alarm = Alarm.objects.get()
    assert alarm.detail == "At step empty. no host at all"
    assert alarm.times == 2


def test_a_pool_that_nobody_follows_is_an_alarm_after_a_minute(operation: Operation) -> None:
    pool = Pool.objects.get()
    Pool.objects.update(followed_until=Now() - timedelta(seconds=50))
    assert standing() == []
    Pool.objects.update(followed_until=Now() - timedelta(seconds=61))
    assert standing() == [f"pool-unfollowed:{pool.pk}"]
    Pool.objects.update(followed_until=Now())
    assert standing() == []


def test_alarms_of_others_are_left_alone(operation: Operation) -> None:
    open_alarm("pool-unreachable:x", title="Pool x does not answer")
    assert standing() == ["pool-unreachable:x"]


# ------------------------------------------------------------------------------------------------ blanks


def end_of_a_blank(host: Host, state: State, code: str = "", error: str = "") -> None:
    Operation.objects.create(
        kind="blank.prepare",
        blank=make_blank(host),
        state=state,
        ended_at=Now(),
        error_code=code,
        error=error,
    )


@pytest.fixture
def warm_host() -> Host:
    host = make_host(memory_capacity_bytes=2**40)
    Pool.objects.update(followed_until=Now() + timedelta(hours=1))
    WarmPolicy.objects.create(pool=host.pool, **asdict(SIZES), count=1)
    return host


def test_a_pool_whose_blanks_all_fail_opens_one_until_one_is_made(warm_host: Host) -> None:
    end_of_a_blank(warm_host, State.SUCCEEDED)
    for _ in range(2):
        end_of_a_blank(warm_host, State.FAILED, "not_ready", "Its guest ended.")
    assert standing() == []
    end_of_a_blank(warm_host, State.FAILED, "not_ready", "Its guest ended.")
    assert standing() == [f"blanks-failing:{warm_host.pool_id}"]
    assert Alarm.objects.get().detail == "Its containers start cold. The last one: Its guest ended."
    end_of_a_blank(warm_host, State.SUCCEEDED)
    assert standing() == []


def test_blanks_that_found_no_room_or_were_called_off_are_no_trouble(warm_host: Host) -> None:
    for _ in range(3):
        end_of_a_blank(warm_host, State.FAILED, "no_room")
        end_of_a_blank(warm_host, State.CANCELLED, "cancelled")
    assert standing() == []


def test_nobody_is_told_of_a_pool_that_is_to_have_none_any_more(warm_host: Host) -> None:
    for _ in range(3):
        end_of_a_blank(warm_host, State.FAILED, "not_ready")
    WarmPolicy.objects.all().delete()
    assert standing() == []
