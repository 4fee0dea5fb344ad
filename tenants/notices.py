"""That something of a tenant's changed: for its people's open pages."""

from collections.abc import Collection
from uuid import UUID

from django.db import transaction

from hosting.notices import publish


def channel_of(tenant: UUID) -> str:
    return f"bulkhead:tenant:{tenant}"


def tell_on_commit(tenants: Collection[UUID]) -> None:
    """Once the transaction is committed, let the pages of these tenants look again."""
    channels = [channel_of(tenant) for tenant in tenants]
    if channels:
        transaction.on_commit(lambda: publish(channels), robust=True)
