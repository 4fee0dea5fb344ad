"""Alarms that open and close by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from hosting.alarms.models import Alarm
from hosting.alarms.services import open_alarm
from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import make_host
from hosting.operations.attention import raise_and_close_alarms
from hosting.operations.choices import State, Trouble, What
from hosting.operations.models import Operation, OperationEvent

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
