"""Opening and closing alarms, and writing down what was done."""

from collections.abc import Mapping
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
