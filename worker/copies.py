"""Keeps the copies of a pool's database that its other hosts hold fresh.

XAPI copies it every five minutes (XAPI.md 6.5); what was made since then is unknown to a new master when the
old one dies. So it is copied soon after something was made, and not more often.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from django.core.cache import cache
from django.db.models import Q
from django.db.models.functions import Now

from hosting.fleet.choices import PoolState
from hosting.fleet.models import Pool
from hosting.operations.models import Operation
from worker.hypervisor.port import Hypervisor, HypervisorError

log = structlog.get_logger(__name__)

_REMEMBERED = timedelta(days=1)
# No operation that makes something goes on for longer without an alarm.
_LONGEST = timedelta(hours=1)
_MAKE = ("instance.provision", "instance.start", "instance.restart", "instance.resize")


def copy_databases(connect: Callable[[Pool], Hypervisor]) -> int:
    """How many pools were told to. One that does not answer is told the next time."""
    return sum(_copy(pool, connect) for pool in Pool.objects.filter(state=PoolState.CONNECTED))


def _copy(pool: Pool, connect: Callable[[Pool], Hypervisor]) -> bool:
    key = f"copied:{pool.pk}"
    now: datetime = Pool.objects.filter(pk=pool.pk).values_list(Now(), flat=True).get()
    since = cache.get(key) or now - _LONGEST
    if not _was_made(pool, since):
        return False
    try:
        connect(pool).sync_database()
    except HypervisorError as error:
        log.warning("database_not_copied", pool=str(pool.pk), reason=error.reason)
        return False
    cache.set(key, now, _REMEMBERED.total_seconds())
    return True


def _was_made(pool: Pool, since: datetime) -> bool:
    about = Q(instance__pool=pool, kind__in=_MAKE) | Q(image__pool=pool, kind="image.import")
    about |= Q(blank__pool=pool, kind="blank.prepare")
    recent = Operation.objects.filter(about, created_at__gt=since - _LONGEST)
    return recent.filter(ended_at__gt=since).exists()
