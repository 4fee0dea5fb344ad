"""VMs that have booted before anybody asked for them: how many are wanted, and those that there are.

The ledger of a host's memory (hosting/compute/models.py) counts them: what is reserved on a host is the sum over
its instances and over the blanks that hold memory themselves. When an instance takes a blank, what the blank held
is the instance's, and the host's sum stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID, uuid4

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from hosting.compute.models import SIZES, AlreadyPlacedError, Instance
from hosting.fleet.models import Host, Pool
from hosting.networks.addresses import mac_of
from hosting.warm.choices import BOOTS, HOLDERS, IDLE, BlankState


class WarmPolicy(models.Model):
    """How many blanks of one size each accepting host of a pool is to have."""

    pool = models.ForeignKey(Pool, models.CASCADE, related_name="warm_policies")
    vcpus = models.PositiveIntegerField()
    memory_bytes = models.PositiveBigIntegerField()
    disk_bytes = models.PositiveBigIntegerField()
    count = models.PositiveSmallIntegerField(help_text="On each host.")

    class Meta:
        ordering = [*SIZES]
        verbose_name_plural = "warm policies"
        constraints = [
            models.UniqueConstraint(fields=["pool", *SIZES], name="one_warm_policy_per_size"),
            models.CheckConstraint(
                name="warm_policy_has_sizes",
                condition=Q(vcpus__gt=0, memory_bytes__gt=0, disk_bytes__gt=0, count__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.count} × {self.vcpus} vCPU, {self.memory_bytes} and {self.disk_bytes} bytes"


class BlankQuerySet(models.QuerySet["Blank"]):
    """The methods that reserve, take or end belong into a transaction: they change the host's row too."""

    def living(self) -> BlankQuerySet:
        return self.exclude(state=BlankState.ENDED)

    def holding(self) -> BlankQuerySet:
        """Those whose memory is not an instance's."""
        return self.filter(state__in=HOLDERS)

    def ready(self) -> BlankQuerySet:
        """Those that may be taken: they were made as VMs of their pool would be now."""
        as_now = {name: F(f"pool__{name}") for name in BOOTS}
        linked = Q(mac="", pool__network_device="") | ~Q(mac="") & ~Q(pool__network_device="")
        ready = self.filter(linked, state=BlankState.READY, **as_now)
        return ready.filter(sr_uuid=F("pool__default_sr_uuid"))

    def fitting(self, instance: Instance, srs: Collection[UUID]) -> BlankQuerySet:
        """Those that may be taken, just as large, and whose disk is on one of these SRs."""
        size = {name: getattr(instance, name) for name in SIZES}
        return self.ready().filter(sr_uuid__in=srs, **size)

    def of(self, instance: Instance) -> Blank | None:
        """The one that it has taken and that is not its VM yet."""
        return self.filter(instance=instance, state=BlankState.TAKEN).first()

    # while it is made -------------------------------------------------------------------------------

    def reserve(self, blank: Blank, reserved_bytes: int) -> bool:
        """Its host's memory, and how it is to be made; False when the host has no room or takes nothing new."""
        if not Host.objects.filter(pk=blank.host_id).reserve(reserved_bytes):
            return False
        pool = Pool.objects.filter(pk=blank.pool_id)
        made = pool.values("network_device", *BOOTS, sr_uuid=F("default_sr_uuid")).get()
        mac = mac_of(blank.pk) if made.pop("network_device") else ""
        fresh = self.filter(pk=blank.pk, state=BlankState.PREPARING, reserved_bytes=0)
        if not fresh.update(reserved_bytes=reserved_bytes, mac=mac, **made):
            raise AlreadyPlacedError(blank.pk)
        return True

    def note_ready(self, blank: Blank, vm: UUID, disk: UUID) -> bool:
        """It is paused, and whoever wants it may take it; False when it was retired meanwhile."""
        asked = self.filter(pk=blank.pk, state=BlankState.PREPARING)
        ready = {"state": BlankState.READY, "vm_uuid": vm, "disk_uuid": disk, "ready_at": Now()}
        return bool(asked.update(**ready))

    # while an instance starts -----------------------------------------------------------------------

    def take(self, instance: Instance, host: UUID, srs: Collection[UUID]) -> Blank | None:
        """One that fits the instance on `host`, and the place that it held; None when there is none.

        No two ever get the same one: its row is locked, and others pass over it.
        """
        if Host.objects.hold_accepting(host) is None:
            return None
        fitting = self.fitting(instance, srs).filter(host=host)
        free = fitting.select_for_update(skip_locked=True, no_key=True, of=("self",))
        blank = free.order_by("ready_at", "pk").first()
        if blank is None:
            return None
        placed = Instance.objects.filter(pk=instance.pk, host=None).update(
            host=host, pool=blank.pool_id, reserved_bytes=blank.reserved_bytes
        )
        if not placed:
            raise AlreadyPlacedError(instance.pk)
        taken = {"state": BlankState.TAKEN, "instance": instance, "reserved_bytes": 0}
        self.filter(pk=blank.pk).update(**taken)
        return blank

    def put_back(self, instance: Instance) -> None:
        """Only in the transaction that took it: nobody has acted on it."""
        self._leave(instance, {"state": BlankState.READY, "instance": None})

    def give_up(self, instance: Instance) -> None:
        """The instance goes elsewhere. Its blank is to be destroyed, and holds the place until it is."""
        self._leave(instance, {"state": BlankState.RETIRED})

    def _leave(self, instance: Instance, changes: Mapping[str, object]) -> None:
        blank = self.of(instance)
        if blank is None:
            return
        placed = Instance.objects.filter(pk=instance.pk, host=blank.host_id)
        held = placed.values_list("reserved_bytes", flat=True).get()
        placed.update(host=None, reserved_bytes=0)
        self.filter(pk=blank.pk).update(reserved_bytes=held, **changes)

    def use_up(self, instance: Instance) -> None:
        """What it took is its VM now, or is destroyed; there may be none."""
        taken = self.filter(instance=instance, state=BlankState.TAKEN)
        taken.update(state=BlankState.ENDED, ended_at=Now())

    # its end ----------------------------------------------------------------------------------------

    def retire(self, blank: Blank) -> bool:
        """Nobody may take it any more; False when somebody has, or when it has ended."""
        if self.filter(pk=blank.pk, state__in=IDLE).update(state=BlankState.RETIRED):
            return True
        return self.filter(pk=blank.pk, state=BlankState.RETIRED).exists()

    def end(self, blank: Blank) -> None:
        """Nothing of it is left in its pool: its host gets its memory back."""
        self._bury(self.filter(pk=blank.pk))

    def bury(self, host: Host) -> None:
        """The host is dead: whatever was on it runs nowhere."""
        self._bury(self.filter(host=host))
        taken = self.filter(host=host, state=BlankState.TAKEN)
        taken.update(state=BlankState.ENDED, ended_at=Now())

    def _bury(self, blanks: BlankQuerySet) -> None:
        held = blanks.holding().order_by("pk").select_for_update(no_key=True)
        for blank in list(held):
            if blank.reserved_bytes:
                Host.objects.filter(pk=blank.host_id).release(blank.reserved_bytes)
            ended = {"state": BlankState.ENDED, "reserved_bytes": 0, "ended_at": Now()}
            self.filter(pk=blank.pk).update(**ended)


class Blank(models.Model):
    """A VM of no tenant that has booted and stands paused until an instance takes it, once.

    It has an empty scratch disk and, where instances of its pool have one, an interface on a network that leads
    nowhere: there is nothing in it of anybody. Its uuid names what is made for it.
    """

    uuid = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="blanks")
    host = models.ForeignKey(Host, models.PROTECT, related_name="blanks")
    vcpus = models.PositiveIntegerField()
    memory_bytes = models.PositiveBigIntegerField()
    disk_bytes = models.PositiveBigIntegerField()
    reserved_bytes = models.PositiveBigIntegerField(
        default=0, help_text="On its host, while it is nobody's; an instance that takes it gets it."
    )
    state = models.CharField(max_length=9, choices=BlankState, default=BlankState.PREPARING)
    instance = models.ForeignKey(
        Instance, models.PROTECT, null=True, related_name="blanks", help_text="Which took it."
    )
    vm_uuid = models.UUIDField(null=True, help_text="As XAPI named it.")
    disk_uuid = models.UUIDField(null=True, help_text="Its scratch disk, as XAPI named it.")
    mac = models.CharField(
        max_length=17,
        blank=True,
        help_text="Of its interface, and of who takes it. Empty: it has none.",
    )
    # As the pool said when it was made.
    sr_uuid = models.UUIDField(null=True)
    boot_mode = models.CharField(max_length=4, blank=True)
    boot_kernel = models.CharField(max_length=255, blank=True)
    boot_ramdisk = models.CharField(max_length=255, blank=True)
    boot_args = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ready_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = BlankQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["host"], name="blank_living", condition=~Q(state=BlankState.ENDED)
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="blank_state_is_known", condition=Q(state__in=BlankState.values)
            ),
            models.CheckConstraint(
                name="blank_has_sizes",
                condition=Q(vcpus__gt=0, memory_bytes__gt=0, disk_bytes__gt=0),
            ),
            models.CheckConstraint(
                name="blank_holds_memory_while_it_is_nobodys",
                condition=Q(state=BlankState.PREPARING)
                | Q(state__in=[BlankState.TAKEN, BlankState.ENDED], reserved_bytes=0)
                | Q(state=BlankState.READY, reserved_bytes__gt=0)
                | Q(state=BlankState.RETIRED),
            ),
            models.CheckConstraint(
                name="blank_is_an_instances_once_taken",
                condition=Q(state__in=[BlankState.RETIRED, BlankState.ENDED])
                | Q(state=BlankState.TAKEN, instance__isnull=False)
                | Q(state__in=IDLE, instance=None),
            ),
            models.CheckConstraint(
                name="blank_is_a_vm_once_ready",
                condition=~Q(state__in=[BlankState.READY, BlankState.TAKEN])
                | Q(vm_uuid__isnull=False, disk_uuid__isnull=False, ready_at__isnull=False),
            ),
            models.CheckConstraint(
                name="blank_ended_when_it_ended",
                condition=Q(state=BlankState.ENDED, ended_at__isnull=False)
                | (~Q(state=BlankState.ENDED) & Q(ended_at=None)),
            ),
            models.UniqueConstraint(
                fields=["instance"],
                name="one_taken_blank_per_instance",
                condition=Q(state=BlankState.TAKEN),
            ),
            models.UniqueConstraint(fields=["vm_uuid"], name="one_blank_per_vm"),
        ]

    def __str__(self) -> str:
        return f"blank {self.uuid}"
