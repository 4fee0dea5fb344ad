"""That something changed in a pool: for operators' pages."""

import json
from collections.abc import Collection
from uuid import UUID

from hosting.notices import publish


def channel_of(pool: UUID) -> str:
    return f"bulkhead:pool:{pool}"


def publish_change(pool: UUID, kinds: Collection[str]) -> None:
    """Say that rows of these kinds ("host", "vm", "pool", …) changed: {"pool": uuid, "kinds": […]}."""
    said = json.dumps({"pool": str(pool), "kinds": sorted(kinds)})
    publish([channel_of(pool)], said)
