"""Reading blanks, for pages. Every one costs a constant number of queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Q, Sum

from hosting.fleet.choices import DIRECT_BOOTS
from hosting.fleet.models import Pool
from hosting.warm.choices import IDLE, BlankState
from hosting.warm.models import Blank, WarmPolicy


@dataclass(frozen=True, slots=True)
class Warmth:
    """Of one pool. `hosts`: those that have blanks → how many are ready, how many are being made.

    `policies` are not in force while the pool boots its VMs from their disks (`in_force`).
    """

    policies: tuple[WarmPolicy, ...]
    in_force: bool
    hosts: Mapping[UUID, tuple[int, int]]

    @property
    def wanted(self) -> int:
        """On each accepting host, of all sizes."""
        return sum(policy.count for policy in self.policies) if self.in_force else 0

    @property
    def is_shown(self) -> bool:
        return bool(self.policies or self.hosts)

    def on(self, host: UUID) -> tuple[int, int]:
        """How many are ready there, and how many are being made."""
        return self.hosts.get(host, (0, 0))


def warmth_of(pool: Pool) -> Warmth:
    """Two queries."""
    living = Blank.objects.filter(pool=pool, state__in=IDLE).order_by()
    counted = living.values("host").annotate(
        ready=Count("pk", filter=Q(state=BlankState.READY)),
        preparing=Count("pk", filter=Q(state=BlankState.PREPARING)),
    )
    hosts = {row["host"]: (row["ready"], row["preparing"]) for row in counted}
    return Warmth(
        policies=tuple(WarmPolicy.objects.filter(pool=pool)),
        in_force=pool.boot_mode in DIRECT_BOOTS,
        hosts=hosts,
    )


def yielding_bytes(pool: Pool) -> dict[UUID, int]:
    """Host → memory that its blanks would give to instances that need it. One query."""
    holding = Blank.objects.all().holding().filter(pool=pool)
    sums = holding.order_by().values_list("host").annotate(bytes=Sum("reserved_bytes"))
    return dict(sums)
