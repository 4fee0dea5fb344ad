"""Alarms are raised, counted, acknowledged and closed; what was done stays written down."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from hosting.alarms import selectors
from hosting.alarms.choices import Severity
from hosting.alarms.models import Alarm, AuditEntry
from hosting.alarms.services import (
    Wanted,
    acknowledge_alarm,
    close_alarm,
    let_stand,
    open_alarm,
    record_audit,
)

pytestmark = pytest.mark.django_db


def test_raised_again_it_is_counted_and_not_doubled() -> None:
    open_alarm("disk:a", title="old", severity=Severity.WARNING)
    open_alarm("disk:a", title="new", severity=Severity.CRITICAL, detail="worse")
    alarm = Alarm.objects.get()
    assert (alarm.times, alarm.title, alarm.severity, alarm.detail) == (
        2,
        "new",
        "critical",
        "worse",
    )


def test_raised_after_it_was_closed_it_is_a_new_one() -> None:
    open_alarm("disk:a", title="x")
    assert close_alarm("disk:a")
    assert not close_alarm("disk:a")
    open_alarm("disk:a", title="x")
    assert Alarm.objects.count() == 2
    assert selectors.standing_alarms().get().times == 1


def _wanted(tag: str, detail: str = "") -> Wanted:
    return Wanted(tag, Severity.WARNING, f"About {tag}", detail)


def test_of_given_codes_exactly_what_is_wanted_stands_and_others_are_left_alone() -> None:
    for tag in ("disk:old", "fan:old", "disks:other"):
        open_alarm(tag, title="x")
    let_stand(["disk", "fan"], [_wanted("disk:new"), _wanted("fan:old")])
    tags = Alarm.objects.standing().values_list("tag", flat=True)
    assert set(tags) == {"disk:new", "fan:old", "disks:other"}


def test_what_stands_and_says_the_same_is_not_raised_again_and_what_says_more_is() -> None:
    let_stand(["disk"], [_wanted("disk:a", "3 bad blocks"), _wanted("disk:b", "hot")])
    let_stand(["disk"], [_wanted("disk:a", "4 bad blocks"), _wanted("disk:b", "hot")])
    told = dict(Alarm.objects.standing().values_list("tag", "times"))
    assert told == {"disk:a": 2, "disk:b": 1}
    assert Alarm.objects.get(tag="disk:a").detail == "4 bad blocks"


def test_the_database_keeps_one_standing_per_tag() -> None:
    open_alarm("disk:a", title="x")
    with pytest.raises(IntegrityError, match="one_standing_alarm_per_tag"), transaction.atomic():
        Alarm.objects.create(tag="disk:a", severity="info", title="x")


def test_a_race_to_open_ends_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    open_alarm("disk:a", title="x")
    monkeypatch.setattr(type(Alarm.objects.all()), "repeat", lambda *_, **__: False)
    open_alarm("disk:a", title="x")
    assert Alarm.objects.count() == 1


def test_the_worst_stands_first() -> None:
    for severity in Severity:
        open_alarm(f"x:{severity}", title="x", severity=severity)
    assert [alarm.severity for alarm in selectors.standing_alarms()] == [
        "critical",
        "warning",
        "info",
    ]
    assert selectors.recent_alarms().count() == 3


def test_one_person_acknowledges_it() -> None:
    open_alarm("disk:a", title="x")
    alarm = Alarm.objects.get()
    assert acknowledge_alarm(alarm, actor="user:alice")
    assert not acknowledge_alarm(alarm, actor="user:bob")
    alarm.refresh_from_db()
    assert (alarm.acknowledged_by, alarm.is_standing) == ("user:alice", True)


def test_a_closed_one_cannot_be_acknowledged() -> None:
    open_alarm("disk:a", title="x")
    close_alarm("disk:a")
    assert not acknowledge_alarm(Alarm.objects.get(), actor="user:alice")


def test_its_code_names_a_runbook() -> None:
    assert Alarm(tag="pool-unreachable:7f").code == "pool-unreachable"
    with pytest.raises(IntegrityError, match="alarm_tag_has_a_code"), transaction.atomic():
        open_alarm("nameless", title="x")


def test_long_titles_are_cut() -> None:
    open_alarm("x:y", title="x" * 300)
    assert len(Alarm.objects.get().title) == 200


def test_what_was_done_is_found_by_its_subject() -> None:
    entry = record_audit(
        actor="user:alice", action="host.cordon", subject="host:1", facts={"why": "fan"}
    )
    record_audit(actor="user:alice", action="host.cordon", subject="host:2", address="192.0.2.1")
    assert list(selectors.audit_of("host:1")) == [entry]


def test_what_was_done_can_be_neither_changed_nor_removed() -> None:
    entry = record_audit(actor="user:alice", action="host.cordon", subject="host:1")
    for change in (
        lambda: AuditEntry.objects.update(actor="user:bob"),
        lambda: entry.delete(),
        lambda: AuditEntry.objects.all()._raw_delete("default"),
    ):
        with pytest.raises(IntegrityError, match="only ever added to"), transaction.atomic():
            change()
