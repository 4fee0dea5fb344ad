"""That an operation went on: for the pages of the tenant whose container or image it is about."""

from django.db.models.functions import Coalesce

from hosting.operations.models import Operation, OperationQuerySet
from tenants.notices import tell_on_commit


def tell_of(operation: Operation) -> None:
    """On commit. No query when its subject is at hand."""
    tenant = operation.tenant_uuid
    if tenant is not None:
        tell_on_commit([tenant])


def tell_of_all(operations: OperationQuerySet) -> None:
    """On commit. One query, however many they are."""
    theirs = Coalesce("instance__container__tenant_id", "image__tenant_id")
    found = operations.values_list(theirs, flat=True).order_by().distinct()
    tell_on_commit([tenant for tenant in found if tenant is not None])
