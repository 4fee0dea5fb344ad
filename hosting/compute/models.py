"""What tenants asked for, and the VMs that are made of it.

The ledger of two things is kept here and in fleet and tenants together, by guarded updates in one
transaction: a tenant's quota (what its containers hold of it: `Container.holds`) and a host's memory (the sum
of `reserved_bytes` of the instances whose `host` or `target` it is).
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Now

from hosting.catalog.models import ImageVersion
from hosting.compute.choices import DesiredState, RestartPolicy
from hosting.fleet.models import Host, Pool, VirtualMachine
from hosting.networks.addresses import first_free_address, mac_of
from hosting.networks.models import Network
from tenants.models import Tenant, is_slug

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZES = ("vcpus", "memory_bytes", "disk_bytes")


class ContainerQuerySet(models.QuerySet["Container"]):
    def present(self) -> ContainerQuerySet:
        """Those not deleted, those being deleted included."""
        return self.filter(deleted_at=None)

    def owned_by(self, tenant: Tenant) -> ContainerQuerySet:
        return self.present().filter(tenant=tenant)

    def locked(self, uuid: UUID) -> Container:
        """This one, with nobody else changing the wish until the transaction ends."""
        return self.select_for_update(no_key=True).get(pk=uuid)

    def wish(self, **wishes: object) -> bool:
        """Write down another wish, and that it is another; False when it is to be deleted already."""
        open_ones = self.present().exclude(desired_state=DesiredState.DELETED)
        return bool(open_ones.update(generation=F("generation") + 1, **wishes))

    def delete_at_last(self) -> int:
        """Its name is free again."""
        return self.present().update(deleted_at=Now(), desired_state=DesiredState.DELETED)


class Container(models.Model):
    """What a tenant asked for. Its facts are those of its instance that lives."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="containers")
    name = models.CharField(max_length=40, validators=[is_slug])
    version = models.ForeignKey(ImageVersion, models.PROTECT, related_name="containers")
    command = ArrayField(
        models.TextField(), default=list, blank=True, help_text="Empty: what the image says."
    )
    env = models.JSONField(default=dict, blank=True, help_text="Shown to the tenant's members.")
    vcpus = models.PositiveIntegerField()
    memory_bytes = models.PositiveBigIntegerField()
    disk_bytes = models.PositiveBigIntegerField()
    restart_policy = models.CharField(
        max_length=10, choices=RestartPolicy, default=RestartPolicy.ALWAYS
    )
    desired_state = models.CharField(
        max_length=7, choices=DesiredState, default=DesiredState.RUNNING
    )
    generation = models.PositiveIntegerField(
        default=1, help_text="Of the wish: one more with each change."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = ContainerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="one_container_of_a_name",
                condition=Q(deleted_at=None),
            ),
            models.CheckConstraint(
                name="container_name_is_a_label",
                condition=Q(name__regex=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"),
            ),
            models.CheckConstraint(
                name="container_has_sizes",
                condition=Q(vcpus__gt=0, memory_bytes__gt=0, disk_bytes__gt=0),
            ),
            models.CheckConstraint(
                name="container_desired_state_is_known",
                condition=Q(desired_state__in=DesiredState.values),
            ),
            models.CheckConstraint(
                name="container_restart_policy_is_known",
                condition=Q(restart_policy__in=RestartPolicy.values),
            ),
            models.CheckConstraint(
                name="container_is_deleted_when_wished",
                condition=Q(deleted_at=None) | Q(desired_state=DesiredState.DELETED),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def holds(self, instance: Instance) -> Mapping[str, int]:
        """What of the quota it and its living `instance` take: of both sizes the greater one.

        While a resize is under way the two differ, and either may come to be what is true.
        """
        greater = {name: max(getattr(self, name), getattr(instance, name)) for name in SIZES}
        return {"containers": 1, **greater}


class InstanceQuerySet(models.QuerySet["Instance"]):
    """The methods that reserve belong into a transaction: they change the host's row and ours."""

    def living(self) -> InstanceQuerySet:
        return self.filter(ended_at=None)

    def end(self) -> int:
        return self.living().update(ended_at=Now())

    def on(self, host: Host) -> InstanceQuerySet:
        """Those that hold memory of this host, where they run or where they are moving to."""
        return self.filter(Q(host=host) | Q(target=host))

    def with_facts(self) -> InstanceQuerySet:
        """Each with what the mirror says of its VM: `power_state`, `resident_on_id`, and `vm_data`, what its
        guest told; None if nothing.
        """
        seen = VirtualMachine.objects.filter(
            instance_uuid=OuterRef("pk"), is_a_template=False, is_a_snapshot=False
        ).order_by("uuid")
        facts = ("power_state", "resident_on_id", "vm_data")
        return self.annotate(**{fact: Subquery(seen.values(fact)[:1]) for fact in facts})

    def take_host(self, instance: Instance, host: UUID, reserved_bytes: int) -> bool:
        """Reserve memory on `host` and put the instance there; False when another got it first."""
        if not Host.objects.filter(pk=host).reserve(reserved_bytes):
            return False
        free = self.filter(pk=instance.pk, host=None)
        if not free.update(host=host, reserved_bytes=reserved_bytes, pool=_pool_of(host)):
            raise AlreadyPlacedError(instance.pk)
        return True

    def leave_host(self, instance: Instance) -> None:
        """Give back what it holds, where it is and where it was to move; nothing held is fine."""
        held = self.filter(pk=instance.pk).values_list("host", "target", "reserved_bytes").get()
        *hosts, reserved = held
        for host in hosts:
            if host is not None:
                Host.objects.filter(pk=host).release(reserved)
        self.filter(pk=instance.pk).update(host=None, target=None, reserved_bytes=0)

    def take_address(self, instance: Instance, network: Network, mac: str = "") -> bool:
        """The next free address of `network`; False when all are taken. `mac`: if not of its own."""
        held = Network.objects.locked(network.pk)
        taken = self.living().filter(network=held).exclude(ip=None)
        address = first_free_address(
            map(IPv4Address, taken.values_list("ip", flat=True)), held.subnet
        )
        if address is None:
            return False
        nic = {"network": held, "ip": str(address), "mac": mac or mac_of(instance.pk)}
        self.filter(pk=instance.pk, network=None).update(**nic)
        for name, value in nic.items():
            setattr(instance, name, value)
        return True

    def leave_pool(self, instance: Instance) -> None:
        """It is in no pool, and on no network: nothing of it is made, or is left."""
        self.leave_host(instance)
        self.filter(pk=instance.pk).update(pool=None, vm_uuid=None, network=None, ip=None, mac="")

    def take_target(self, instance: Instance, target: UUID) -> bool:
        """Reserve as much on the host it is to move to; False when another got it first."""
        if not Host.objects.filter(pk=target).reserve(instance.reserved_bytes):
            return False
        still = self.filter(pk=instance.pk, target=None, reserved_bytes=instance.reserved_bytes)
        if not still.exclude(host=None).update(target=target):
            raise AlreadyPlacedError(instance.pk)
        return True

    def find_on(self, instance: Instance, host: UUID, need_bytes: int) -> bool:
        """It runs on `host`, though that was not asked for; False when the ledger has no room for that.

        `need_bytes` is what it takes if nothing is reserved for it anywhere.
        """
        now = self.select_for_update(no_key=True, of=("self",)).get(pk=instance.pk)
        if host in (now.host_id, now.target_id):
            self.settle_on(now, host)
            return True
        need = now.reserved_bytes or need_bytes
        if not Host.objects.filter(pk=host).take_as_found(need):
            return False
        self.leave_host(now)
        self.filter(pk=now.pk).update(host=host, reserved_bytes=need, pool=_pool_of(host))
        return True

    def settle_on(self, instance: Instance, host: UUID) -> None:
        """It is on `host`, one of the two it holds: the other one gets its memory back."""
        now = self.get(pk=instance.pk)
        if host not in (now.host_id, now.target_id):
            raise AlreadyPlacedError(instance.pk)
        for other in (now.host_id, now.target_id):
            if other in (None, host):
                continue
            Host.objects.filter(pk=other).release(now.reserved_bytes)
        self.filter(pk=instance.pk).update(host=host, target=None)


def _pool_of(host: UUID) -> Subquery:
    return Subquery(Host.objects.filter(pk=host).order_by().values("pool")[:1])


class AlreadyPlacedError(Exception):
    """The row does not hold what the caller believes: a bug of ours."""


class Instance(models.Model):
    """One incarnation of a container as a VM. Its uuid names all that is made for it in the pool."""

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    container = models.ForeignKey(Container, models.PROTECT, related_name="instances")
    generation = models.PositiveIntegerField(help_text="Of the wish that it was made from last.")
    vcpus = models.PositiveIntegerField()
    memory_bytes = models.PositiveBigIntegerField()
    disk_bytes = models.PositiveBigIntegerField()

    pool = models.ForeignKey(
        Pool,
        models.PROTECT,
        null=True,
        related_name="instances",
        help_text="Where its disks are: once placed it stays in one pool.",
    )
    host = models.ForeignKey(
        Host,
        models.PROTECT,
        null=True,
        related_name="instances",
        help_text="Where memory is reserved for it. None: it does not run, nor is about to.",
    )
    target = models.ForeignKey(
        Host,
        models.PROTECT,
        null=True,
        related_name="incoming",
        help_text="Where as much is reserved while it moves.",
    )
    reserved_bytes = models.PositiveBigIntegerField(
        default=0, help_text="On each of the two: its memory and what the hypervisor adds."
    )
    vm_uuid = models.UUIDField(null=True, help_text="As XAPI named the VM that was made last.")
    disk_uuids = models.JSONField(
        default=dict,
        help_text="Role → VDI, as they were when it ran last: a pool may forget whose they are.",
    )
    network = models.ForeignKey(
        Network,
        models.PROTECT,
        null=True,
        related_name="instances",
        help_text="Which its address is of. None: it has no interface.",
    )
    mac = models.CharField(max_length=17, blank=True)
    ip = models.GenericIPAddressField(null=True, unpack_ipv4=True)
    published_at = models.DateTimeField(
        null=True, help_text="When it first ran. Until then a refusal tears it down."
    )
    started_at = models.DateTimeField(null=True, help_text="When it was last seen to start.")
    restarts = models.PositiveIntegerField(default=0, help_text="After ending by itself, in a row.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)

    objects = InstanceQuerySet.as_manager()

    # By with_facts()
    power_state: str | None
    resident_on_id: UUID | None
    vm_data: dict[str, str] | None

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["container"],
                name="one_living_instance_per_container",
                condition=Q(ended_at=None),
            ),
            models.UniqueConstraint(
                fields=["network", "ip"],
                name="one_instance_per_address",
                condition=Q(ended_at=None),
            ),
            models.UniqueConstraint(
                fields=["network", "mac"],
                name="one_instance_per_mac",
                condition=Q(ended_at=None),
            ),
            models.CheckConstraint(
                name="instance_has_an_address_on_its_network",
                condition=Q(network=None, ip=None, mac="")
                | Q(network__isnull=False, ip__isnull=False) & ~Q(mac=""),
            ),
            models.CheckConstraint(
                name="instance_has_sizes",
                condition=Q(vcpus__gt=0, memory_bytes__gt=0, disk_bytes__gt=0),
            ),
            models.CheckConstraint(
                name="instance_reserves_where_it_is",
                condition=Q(host=None, reserved_bytes=0)
                | Q(host__isnull=False, reserved_bytes__gt=0),
            ),
            models.CheckConstraint(
                name="instance_moves_from_somewhere_to_elsewhere",
                condition=Q(target=None) | (Q(host__isnull=False) & ~Q(host=F("target"))),
            ),
            models.CheckConstraint(
                name="instance_is_in_the_pool_of_its_host",
                condition=Q(host=None) | Q(pool__isnull=False),
            ),
            models.CheckConstraint(
                name="instance_holds_nothing_at_its_end",
                condition=Q(ended_at=None) | Q(host=None, target=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.container} ({self.uuid})"

    @property
    def lives(self) -> bool:
        return self.ended_at is None
