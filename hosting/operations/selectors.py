"""Reading operations, for pages and programs."""

from contextlib import suppress
from uuid import UUID

from django.db.models import Exists, Model, OuterRef, Q, QuerySet, Subquery, TextField, Value
from django.db.models.functions import Cast, Concat

from hosting.alarms.models import Alarm
from hosting.compute.models import Container
from hosting.fleet.models import HostQuerySet
from hosting.operations.models import SUBJECTS, Operation, OperationEvent, OperationQuerySet
from tenants.models import Tenant

# Blanks are nobody's, and their table is closed to tenants.
_TENANTS_MAY_READ = tuple(name for name in SUBJECTS if name != "blank")


def operations() -> OperationQuerySet:
    """All, newest first, with what they are about, as far as tenants may know of it."""
    found = Operation.objects.select_related(*_TENANTS_MAY_READ).defer("pool__candidates")
    return found.order_by("-created_at", "uuid")


def operations_of(tenant: Tenant) -> OperationQuerySet:
    """Those about the tenant's containers and its own images, newest first, with their instances."""
    found = Operation.objects.select_related("instance").filter(about_things_of(tenant))
    return found.order_by("-created_at", "uuid")


def about_things_of(tenant: Tenant) -> Q:
    return Q(instance__container__tenant=tenant) | Q(image__tenant=tenant)


def operations_with_owners() -> OperationQuerySet:
    """All, newest first, each with whose it is: for operators."""
    return operations().select_related(
        "host__pool",
        "instance__container__tenant",
        "image__tenant",
        "blank",
        "parent",
        "superseded_by",
    )


def operations_named(text: str) -> Q:
    """Those about something of this name or uuid, whoever's it is, or asked for by somebody of it."""
    named = Q(requested_by__icontains=text)
    for path in _NAMES:
        named |= Q(**{f"{path}__icontains": text})
    with suppress(ValueError):
        uuid = UUID(text)
        for path in ("uuid", "parent", "instance__container", *SUBJECTS):
            named |= Q(**{path: uuid})
    return named


_NAMES = (
    "instance__container__name",
    "instance__container__tenant__slug",
    "image__name",
    "image__tenant__slug",
    "host__name",
    "pool__name",
)


def children_of(operation: Operation) -> OperationQuerySet:
    """What it began, newest first."""
    return operations_with_owners().filter(parent=operation)


def has_ended(operation: UUID) -> bool:
    """One small query. What is not there has ended."""
    return not Operation.objects.filter(pk=operation, ended_at=None).exists()


def active_operations() -> OperationQuerySet:
    return operations().active()


def operations_about(subject: Model) -> OperationQuerySet:
    """The history of one subject, newest first."""
    return operations().about(subject)


def active_operation_about(subject: Model) -> Operation | None:
    return active_operations().about(subject).first()


def journal_of(operation: Operation) -> QuerySet[OperationEvent]:
    """Oldest first."""
    return OperationEvent.objects.filter(operation=operation).order_by("pk")


def journal_of_container(container: Container) -> QuerySet[OperationEvent]:
    """Of all that was ever done with it, the newest first, without what only operators may read."""
    return (
        OperationEvent.objects.filter(operation__instance__container=container)
        .select_related("operation")
        .defer("private")
        .order_by("-pk")
    )


def newest_operation_of_container(container: Container) -> Operation | None:
    """What was asked of it last."""
    return operations().filter(instance__container=container).first()


def operation_of_key(*, requested_by: str, idempotency_key: str) -> Operation | None:
    """What this requester's request of this key made, if it was made before."""
    if not idempotency_key:
        return None
    return operations().filter(requested_by=requested_by, idempotency_key=idempotency_key).first()


def hosts_with_doings(hosts: HostQuerySet) -> HostQuerySet:
    """Each with the operation under way on it: `doing` (its kind) and `is_called_off`; None if none.

    And with `is_unfenced`: whether an alarm stands that it cannot be fenced.
    """
    active = Operation.objects.active().filter(host=OuterRef("pk"))
    asked = active.annotate(is_called_off=Q(cancel_requested_at__isnull=False))
    tag = Concat(Value("host-not-fenced:"), Cast(OuterRef("pk"), TextField()))
    return hosts.annotate(
        doing=Subquery(active.values("kind")[:1]),
        is_called_off=Subquery(asked.values("is_called_off")[:1]),
        is_unfenced=Exists(Alarm.objects.filter(closed_at=None, tag=tag)),
    )
