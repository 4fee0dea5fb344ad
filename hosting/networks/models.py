"""Tenants' own L2 segments: a subnet for each tenant, and a VLAN of it in each pool where it has instances.

Subnets, tags and addresses are taken by inserts and updates that the database refuses to do twice; which one
is free is only a guess before.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from hosting.fleet.models import Pool
from hosting.networks.addresses import first_free, first_free_subnet
from hosting.networks.fields import CidrField
from tenants.models import Tenant


class NetworkQuerySet(models.QuerySet["Network"]):
    def take(self, tenant: UUID) -> Network | None:
        """The tenant's network, made with the next free subnet if it has none; None when no subnet is left.

        In a transaction. Others who take at the same moment are waited for.
        """
        within, prefix = settings.NETWORK_RANGE, settings.NETWORK_PREFIX
        while (network := self.filter(tenant=tenant).first()) is None:
            taken = self.values_list("subnet", flat=True)
            subnet = first_free_subnet(taken, within, prefix)
            if subnet is None:
                return None
            self.bulk_create([Network(tenant_id=tenant, subnet=subnet)], ignore_conflicts=True)
        return network

    def locked(self, uuid: UUID) -> Network:
        """This one, with nobody else giving out its addresses until the transaction ends."""
        return self.select_for_update(no_key=True).get(pk=uuid)


class Network(models.Model):
    """A tenant's own L2 segment. Nobody else's subnet overlaps its own, in whatever pool.

    The database sees to that by an exclusion constraint (migration 0001).
    """

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    tenant = models.OneToOneField(Tenant, models.PROTECT, related_name="network")
    subnet: models.Field[IPv4Network, IPv4Network] = CidrField(editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = NetworkQuerySet.as_manager()

    class Meta:
        ordering = ["subnet"]

    def __str__(self) -> str:
        return f"{self.tenant} ({self.subnet})"


class SegmentQuerySet(models.QuerySet["Segment"]):
    """The methods that take or retire belong into a transaction."""

    def living(self) -> SegmentQuerySet:
        """Those that hold a tag: not ended."""
        return self.filter(ended_at=None)

    def of(self, network: Network, pool: Pool) -> Segment | None:
        return self.living().filter(network=network, pool=pool).first()

    def take(self, network: Network, pool: Pool) -> Segment | None:
        """The network's segment in that pool, made with the next free tag if it has none; None when none is left.

        It stays as it is until the transaction ends: what is put on it now is seen before it is retired.
        """
        here = self.living().filter(pool=pool)
        while (segment := here._held(network)) is None:
            taken = here.values_list("tag", flat=True)
            tag = first_free(taken, pool.vlan_first, pool.vlan_last)
            if tag is None:
                return None
            made = Segment(network=network, pool=pool, device=pool.network_device, tag=tag)
            self.bulk_create([made], ignore_conflicts=True)
        return segment

    def _held(self, network: Network) -> Segment | None:
        return self.filter(network=network).select_for_update(no_key=True).first()

    def note_made(self, segment: Segment, network_uuid: UUID, hosts: list[UUID]) -> None:
        self.living().filter(pk=segment.pk).update(
            network_uuid=network_uuid, hosts=hosts, made_at=Now()
        )

    def forget(self, network_uuid: UUID) -> None:
        """The pool does not know that network any more: it is to be made again."""
        self.living().filter(network_uuid=network_uuid).update(network_uuid=None, hosts=[])

    def retire(self, segment: Segment) -> bool:
        """Nothing may be put on it any more; False when an instance is on it."""
        held = self.living().select_for_update(no_key=True).filter(pk=segment.pk).first()
        if held is None:
            return False
        if held.network.instances.filter(pool=held.pool_id, ended_at=None).exists():
            return False
        self.filter(pk=held.pk, retired_at=None).update(retired_at=Now())
        return True

    def end(self, segment: Segment) -> None:
        """Nothing of it is left in its pool: its tag is free again."""
        retired = self.living().filter(pk=segment.pk).exclude(retired_at=None)
        retired.update(ended_at=Now(), network_uuid=None, hosts=[])


class Segment(models.Model):
    """A network in one pool: a VLAN there. Its uuid names what is made for it."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    network = models.ForeignKey(Network, models.PROTECT, related_name="segments")
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="segments")
    device = models.CharField(max_length=15, help_text="The pool's, when this was begun.")
    tag = models.PositiveSmallIntegerField(help_text="VLAN tag (IEEE 802.1Q).")
    network_uuid = models.UUIDField(
        null=True, help_text="As XAPI named the network that was made. None: it is not made yet."
    )
    hosts = ArrayField(
        models.UUIDField(), default=list, help_text="Where its VLAN was looked after last."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    made_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True, help_text="It is being removed.")
    ended_at = models.DateTimeField(null=True)

    objects = SegmentQuerySet.as_manager()

    class Meta:
        ordering = ["pool", "tag"]
        constraints = [
            models.UniqueConstraint(
                fields=["network", "pool"],
                name="one_segment_of_a_network_per_pool",
                condition=Q(ended_at=None),
            ),
            models.UniqueConstraint(
                fields=["pool", "tag"],
                name="one_segment_per_tag_of_a_pool",
                condition=Q(ended_at=None),
            ),
            models.CheckConstraint(
                name="segment_has_a_tag", condition=Q(tag__gte=1, tag__lte=4094) & ~Q(device="")
            ),
            models.CheckConstraint(
                name="segment_ends_after_it_retires",
                condition=Q(ended_at=None) | Q(retired_at__isnull=False, network_uuid=None),
            ),
        ]

    def __str__(self) -> str:
        return f"VLAN {self.tag}"
