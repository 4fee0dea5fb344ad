"""What a person must look at, and what persons did."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from hosting.alarms.choices import Severity


class AlarmQuerySet(models.QuerySet["Alarm"]):
    def standing(self) -> AlarmQuerySet:
        """Open ones, the worst and oldest first."""
        order = models.Case(
            *(models.When(severity=word, then=rank) for rank, word in enumerate(_WORST_FIRST)),
            output_field=models.IntegerField(),
        )
        return self.filter(closed_at=None).order_by(order, "opened_at")

    def of_codes(self, codes: Iterable[str]) -> AlarmQuerySet:
        return self.filter(reduce(or_, (Q(tag__startswith=f"{code}:") for code in codes)))

    def close(self, tags: Iterable[str]) -> int:
        """Close the standing alarms of these tags; how many there were."""
        return self.filter(closed_at=None, tag__in=list(tags)).update(closed_at=Now())

    def repeat(self, tag: str, *, severity: str, title: str, detail: str) -> bool:
        """Note that a standing alarm was raised again; False when none of that tag stands."""
        return bool(
            self.filter(closed_at=None, tag=tag).update(
                severity=severity,
                title=title,
                detail=detail,
                last_raised_at=Now(),
                times=F("times") + 1,
            )
        )


_WORST_FIRST = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)


class Alarm(models.Model):
    """Something that a person must look at, until it is no longer so.

    `tag` is "<code>:<what it is about>", e.g. "pool-unreachable:<uuid>": one alarm of a tag stands at a
    time. The code names the runbook, deploy/runbooks/<code>.md.
    """

    tag = models.CharField(max_length=200)
    severity = models.CharField(max_length=8, choices=Severity)
    title = models.CharField(max_length=200)
    detail = models.TextField(blank=True)
    opened_at = models.DateTimeField(db_default=Now())
    last_raised_at = models.DateTimeField(db_default=Now())
    times = models.PositiveIntegerField(
        default=1, help_text="How often it was raised while it stood."
    )
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=120, blank=True)
    closed_at = models.DateTimeField(null=True)

    objects = AlarmQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at"]
        indexes = [models.Index(fields=["-opened_at"], name="alarm_newest")]
        constraints = [
            models.UniqueConstraint(
                fields=["tag"], name="one_standing_alarm_per_tag", condition=Q(closed_at=None)
            ),
            models.CheckConstraint(
                name="alarm_severity_is_known", condition=Q(severity__in=Severity.values)
            ),
            models.CheckConstraint(name="alarm_tag_has_a_code", condition=Q(tag__contains=":")),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def code(self) -> str:
        return self.tag.partition(":")[0]

    @property
    def is_standing(self) -> bool:
        return self.closed_at is None


class AuditEntry(models.Model):
    """Who did what to what. Never changed nor removed: the database refuses it."""

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=120, help_text='e.g. "user:alice", "system:follower"')
    action = models.CharField(max_length=63, help_text='e.g. "host.cordon"')
    subject = models.CharField(max_length=120, help_text='e.g. "host:<uuid>"')
    facts = models.JSONField(default=dict, help_text="No secrets.")
    address = models.GenericIPAddressField(null=True, help_text="Where the request came from.")

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["-at"], name="audit_newest"),
            models.Index(fields=["subject", "-at"], name="audit_of_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.subject}"
