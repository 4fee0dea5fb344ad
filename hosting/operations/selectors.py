"""Reading operations, for pages and programs."""

from uuid import UUID

from django.db.models import Model, Q, QuerySet

from hosting.compute.models import Container
from hosting.operations.models import SUBJECTS, Operation, OperationEvent, OperationQuerySet
from tenants.models import Tenant


def operations() -> OperationQuerySet:
    """All, newest first, with what they are about."""
    return Operation.objects.select_related(*SUBJECTS).order_by("-created_at", "uuid")


def operations_of(tenant: Tenant) -> OperationQuerySet:
    """Those about the tenant's containers and its own images, newest first."""
    theirs = Q(instance__container__tenant=tenant) | Q(image__tenant=tenant)
    return operations().filter(theirs)


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
