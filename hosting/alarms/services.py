"""Opening and closing alarms, and writing down what was done."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models.functions import Now

from hosting.alarms.choices import Severity
from hosting.alarms.models import Alarm, AuditEntry


def open_alarm(
    tag: str, *, title: str, severity: Severity = Severity.WARNING, detail: str = ""
) -> None:
    """Make sure that an alarm of this tag stands. Raised again, it is counted, not doubled."""
    said: dict[str, str] = {"severity": severity, "title": title[:200], "detail": detail}
    if Alarm.objects.repeat(tag, **said):
        return
    # Another may open it at this very moment: then it stands, which is all that is wanted.
    Alarm.objects.bulk_create([Alarm(tag=tag, **said)], ignore_conflicts=True)


def close_alarm(tag: str) -> bool:
    """The matter is settled; False when no alarm of this tag stood."""
    return bool(Alarm.objects.close([tag]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """An alarm that should stand. Its tag begins with its code: "<code>:<what it is about>"."""

    tag: str
    severity: Severity
    title: str
    detail: str


def let_stand(codes: Collection[str], wanted: Iterable[Wanted]) -> None:
    """Make the alarms of these codes stand exactly where they are wanted.

    One that says the same as before is not raised again.
    """
    all_wanted = {alarm.tag: alarm for alarm in wanted}
    standing = Alarm.objects.standing().of_codes(codes)
    known = dict(standing.values_list("tag", "detail"))
    for alarm in all_wanted.values():
        if known.get(alarm.tag) != alarm.detail:
            open_alarm(alarm.tag, severity=alarm.severity, title=alarm.title, detail=alarm.detail)
    if known.keys() - all_wanted.keys():
        Alarm.objects.close(known.keys() - all_wanted.keys())


def acknowledge_alarm(alarm: Alarm, *, actor: str) -> bool:
    """A person has seen it; False when it is closed or somebody else was first."""
    fresh = Alarm.objects.filter(pk=alarm.pk, closed_at=None, acknowledged_at=None)
    return bool(fresh.update(acknowledged_at=Now(), acknowledged_by=actor))


def record_audit(
    *,
    actor: str,
    action: str,
    subject: str,
    facts: Mapping[str, Any] | None = None,
    address: str | None = None,
) -> AuditEntry:
    """Write down who did what; in the transaction that does it, so that neither is without the other."""
    return AuditEntry.objects.create(
        actor=actor, action=action, subject=subject, facts=dict(facts or {}), address=address
    )
