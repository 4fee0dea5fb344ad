"""Writing what is wanted of warm starts on a person's behalf, with an audit entry in the same transaction."""

from dataclasses import asdict

from django.db import transaction

from hosting.alarms.services import record_audit
from hosting.compute.services import Sizes
from hosting.errors import InvalidRequest
from hosting.fleet.choices import DIRECT_BOOTS
from hosting.fleet.models import Pool
from hosting.warm.models import WarmPolicy

MOST = 100
"""Blanks of one size on one host."""


@transaction.atomic
def set_warm(pool: Pool, sizes: Sizes, *, count: int, actor: str) -> None:
    """Keep `count` blanks of this size on each accepting host of the pool; 0: none. Raises InvalidRequest.

    They come and go by themselves from now on. A blank boots a kernel of its host's, so a pool that boots its VMs
    from their disks can have none. Only containers of just these sizes start in them.
    """
    if pool.boot_mode not in DIRECT_BOOTS and count:
        raise InvalidRequest(
            f"{pool} boots by {pool.boot_mode}, and blanks have no disk to boot from: set_boot pvh or pv first."
        )
    sizes.check()
    if not 0 <= count <= MOST:
        raise InvalidRequest(f"count: from 0 to {MOST} on each host.")
    size = asdict(sizes)
    if count:
        WarmPolicy.objects.update_or_create(pool=pool, **size, defaults={"count": count})
    else:
        WarmPolicy.objects.filter(pool=pool, **size).delete()
    facts = {**size, "count": count}
    record_audit(actor=actor, action="pool.set_warm", subject=f"pool:{pool.pk}", facts=facts)
