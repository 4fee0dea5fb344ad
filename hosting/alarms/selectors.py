from django.db.models import QuerySet

from hosting.alarms.models import Alarm, AlarmQuerySet, AuditEntry


def standing_alarms() -> AlarmQuerySet:
    """What a person must look at now, the worst first."""
    return Alarm.objects.all().standing()


def closed_alarms() -> QuerySet[Alarm]:
    """What was, the last closed first: slice it."""
    return Alarm.objects.exclude(closed_at=None).order_by("-closed_at", "-pk")


def recent_alarms() -> QuerySet[Alarm]:
    """All alarms, newest first: slice it."""
    return Alarm.objects.order_by("-opened_at")


def audit_of(subject: str) -> QuerySet[AuditEntry]:
    return AuditEntry.objects.filter(subject=subject)
