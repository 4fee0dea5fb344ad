"""Long-running work: a durable cursor over the steps of a workflow, and its journal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID, uuid4

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from hosting.catalog.models import Image
from hosting.compute.models import Instance
from hosting.fleet.models import Host, Pool
from hosting.networks.models import Segment
from hosting.operations.choices import ENDED, Queue, State, Trouble, What, kinds_in
from hosting.warm.models import Blank

# A bell that nobody answered for so long is rung again.
UNHEARD = timedelta(seconds=30)

# The columns of which exactly one says what an operation is about. To add one: the foreign key, its name
# in both lines here, and a migration; every rule about it follows.
SUBJECTS = ("pool", "host", "instance", "image", "segment", "blank")
# How to read each together with its pool and what steps over it need, in one query.
WITH_POOL: Mapping[str, tuple[str, ...]] = {
    "pool": ("pool",),
    "host": ("host__pool",),
    "instance": ("instance__pool", "instance__container__version"),
    "image": ("image__pool",),
    "segment": ("segment__pool", "segment__network"),
    "blank": ("blank__pool",),
}


def _exactly_one_subject() -> Q:
    return reduce(
        or_,
        (Q(**{f"{name}__isnull": name != chosen for name in SUBJECTS}) for chosen in SUBJECTS),
    )


class OperationQuerySet(models.QuerySet["Operation"]):
    def active(self) -> OperationQuerySet:
        return self.filter(state=State.ACTIVE)

    def about(self, subject: models.Model) -> OperationQuerySet:
        """Those whose subject this is."""
        return self.filter(**{subject_name(subject): subject})

    def due(self) -> OperationQuerySet:
        """Active ones whose time has come and that no worker holds."""
        return self.active().filter(run_at__lte=Now(), leased_until__lte=Now())

    def in_queue(self, queue: Queue) -> OperationQuerySet:
        if queue == Queue.TENANT:
            elsewhere = [kind for other in Queue if other != queue for kind in kinds_in(other)]
            return self.exclude(kind__in=elsewhere)
        return self.filter(kind__in=kinds_in(queue))

    def wake(self) -> int:
        """Make them due now. One that runs at this moment looks again when its step is done."""
        return self.active().update(run_at=Now())

    def mark_dispatched(self) -> int:
        """Somebody rings for them: nobody else need do so for a while."""
        return self.update(dispatched_until=Now() + UNHEARD)

    def promote(self) -> int:
        """Those that waited for another to let go are on. Call it when that one has ended."""
        return self.filter(state=State.QUEUED).update(state=State.ACTIVE, run_at=Now())

    def late(self) -> OperationQuerySet:
        return self.active().filter(deadline_at__lte=Now())


class Operation(models.Model):
    """One long-running operation. What a 202 answer points to.

    The engine alone moves `step`, `facts`, `attempt` and the times; others ask through services.
    """

    uuid = models.UUIDField(primary_key=True, default=uuid4)
    kind = models.CharField(max_length=63, help_text='The workflow, e.g. "host.evacuate".')
    pool = models.ForeignKey(Pool, models.PROTECT, null=True, related_name="operations")
    host = models.ForeignKey(Host, models.PROTECT, null=True, related_name="operations")
    instance = models.ForeignKey(Instance, models.PROTECT, null=True, related_name="operations")
    image = models.ForeignKey(Image, models.PROTECT, null=True, related_name="operations")
    segment = models.ForeignKey(Segment, models.PROTECT, null=True, related_name="operations")
    blank = models.ForeignKey(Blank, models.PROTECT, null=True, related_name="operations")
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")

    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    step = models.CharField(max_length=63, blank=True, help_text="Empty: not begun.")
    facts = models.JSONField(default=dict, help_text="What later steps need to know. No secrets.")
    attempt = models.PositiveIntegerField(default=0, help_text="Of this step, in a row.")

    run_at = models.DateTimeField(db_default=Now())
    leased_until = models.DateTimeField(db_default=Now())
    lease_token = models.UUIDField(null=True)
    dispatched_until = models.DateTimeField(db_default=Now())
    deadline_at = models.DateTimeField(
        null=True, help_text="After this a person is told. Nothing fails for being slow."
    )

    cancel_requested_at = models.DateTimeField(null=True)
    superseded_by = models.ForeignKey("self", models.PROTECT, null=True, related_name="supersedes")
    turned_back = models.BooleanField(default=False, help_text="Undoing what it did so far.")
    error_code = models.CharField(
        max_length=63, blank=True, help_text="Why it turned back or failed, for programs."
    )
    error = models.TextField(blank=True, help_text="Why it turned back or failed, for people.")
    trouble = models.CharField(max_length=11, choices=Trouble, default=Trouble.NONE, blank=True)
    detail = models.TextField(blank=True, help_text="Why it waits or retries now, for people.")

    requested_by = models.CharField(
        max_length=120, help_text='e.g. "user:alice", "system:reconcile"'
    )
    idempotency_key = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)

    objects = OperationQuerySet.as_manager()

    # By worker/lease.py
    is_due: bool

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["run_at"], name="operation_due", condition=Q(state=State.ACTIVE)),
            models.Index(
                fields=["deadline_at"],
                name="operation_deadline",
                condition=Q(state=State.ACTIVE),
            ),
            models.Index(fields=["-created_at"], name="operation_newest"),
        ]
        constraints = [
            models.CheckConstraint(
                name="operation_has_one_subject", condition=_exactly_one_subject()
            ),
            *(
                models.UniqueConstraint(
                    fields=[name],
                    name=f"one_active_operation_per_{name}",
                    condition=Q(state=State.ACTIVE),
                )
                for name in SUBJECTS
            ),
            *(
                models.UniqueConstraint(
                    fields=[name],
                    name=f"one_queued_operation_per_{name}",
                    condition=Q(state=State.QUEUED),
                )
                for name in SUBJECTS
            ),
            models.UniqueConstraint(
                fields=["requested_by", "idempotency_key"],
                name="one_operation_per_idempotency_key",
                condition=~Q(idempotency_key=""),
            ),
            models.CheckConstraint(
                name="operation_state_is_known", condition=Q(state__in=State.values)
            ),
            models.CheckConstraint(
                name="operation_trouble_is_known", condition=Q(trouble__in=Trouble.values)
            ),
            models.CheckConstraint(
                name="operation_ended_when_it_ended",
                condition=Q(state__in=sorted(ENDED), ended_at__isnull=False)
                | Q(state__in=[State.QUEUED, State.ACTIVE], ended_at=None),
            ),
            models.CheckConstraint(
                name="operation_lease_only_while_active",
                condition=Q(state=State.ACTIVE) | Q(lease_token=None),
            ),
            models.CheckConstraint(
                name="operation_superseded_by_another",
                condition=Q(superseded_by=None) | ~Q(superseded_by=F("uuid")),
            ),
            models.CheckConstraint(
                name="operation_superseded_by_something",
                condition=~Q(state=State.SUPERSEDED) | Q(superseded_by__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.uuid}"

    @property
    def subject_name(self) -> str:
        """The column that says what this is about."""
        return next(name for name in SUBJECTS if getattr(self, f"{name}_id") is not None)

    @property
    def subject(self) -> Any:
        """The row that this is about; which class depends on the kind."""
        return getattr(self, self.subject_name)

    @property
    def subject_uuid(self) -> UUID:
        uuid: UUID = getattr(self, f"{self.subject_name}_id")
        return uuid

    @property
    def tenant_uuid(self) -> UUID | None:
        """Whose it is; None for what only operators see, and for everybody's images."""
        if self.instance is not None:
            return self.instance.container.tenant_id
        return self.image.tenant_id if self.image is not None else None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_retrying(self) -> bool:
        return self.trouble != Trouble.NONE


def subject_name(subject: models.Model) -> str:
    """The column of Operation that refers to rows of this class."""
    for name in SUBJECTS:
        if Operation._meta.get_field(name).related_model is type(subject):
            return name
    raise TypeError(f"no operation can be about {type(subject).__name__}")


class OperationEventQuerySet(models.QuerySet["OperationEvent"]):
    def note(
        self, operation: Operation, what: What, message: str = "", *, private: str = ""
    ) -> None:
        """Add a line about where `operation` is now."""
        self.create(
            operation=operation,
            what=what,
            step=operation.step,
            attempt=operation.attempt,
            message=message,
            private=private,
        )


class OperationEvent(models.Model):
    """A line of an operation's journal. Only ever added: the database refuses changes."""

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="events")
    at = models.DateTimeField(db_default=Now())
    what = models.CharField(max_length=19, choices=What)
    step = models.CharField(max_length=63, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True, help_text="For tenants.")
    private = models.TextField(blank=True, help_text="For operators: tracebacks, raw answers.")

    objects = OperationEventQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(name="event_what_is_known", condition=Q(what__in=What.values)),
        ]

    def __str__(self) -> str:
        return f"{self.what} {self.step}: {self.message}"
