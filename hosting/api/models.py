"""What the edge keeps for itself."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from django.db import models
from django.db.models.functions import Now

KEPT = timedelta(hours=24)
"""How long the same Idempotency-Key gets the same answer."""

_MOST_AT_ONCE = 20


class AnswerQuerySet(models.QuerySet["Answer"]):
    def expired(self) -> AnswerQuerySet:
        return self.filter(created_at__lte=Now() - KEPT)

    def claim(self, caller: str, key: str, fingerprint: str) -> Answer:
        """The row of this key: a new one to be filled, or what was answered before.

        While another transaction holds the key this waits for its end. To be called in the transaction
        that does what was asked for: a request that fails leaves no row.
        """
        self.filter(caller=caller, key=key).expired().delete()
        mine = Answer(caller=caller, key=key, fingerprint=fingerprint)
        self.bulk_create([mine], ignore_conflicts=True)
        return self.get(caller=caller, key=key)

    def forget_some(self) -> None:
        """Delete some that are too old: called with each new one, it keeps the table small."""
        old = self.expired().order_by("created_at").select_for_update(skip_locked=True)
        self.filter(pk__in=list(old.values_list("pk", flat=True)[:_MOST_AT_ONCE])).delete()


class Answer(models.Model):
    """What a POST of this key was answered with, for whoever sends it again."""

    uuid = models.UUIDField(primary_key=True, default=uuid4)
    caller = models.CharField(max_length=120)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Of the request: SHA-256, hex.")
    status = models.PositiveSmallIntegerField(default=0, help_text="0: not answered yet.")
    location = models.TextField(blank=True)
    sealed_body = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())

    objects = AnswerQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["caller", "key"], name="one_answer_per_key"),
        ]
        indexes = [models.Index(fields=["created_at"], name="answer_oldest")]

    def __str__(self) -> str:
        return f"{self.status} to {self.caller}"
