"""Pools and hosts: what we hold of them, and what was last seen of them.

Two kinds of columns. The ledger is ours (a pool's address and credentials, a host's state, what is
reserved on it). Everything marked *observed* is a mirror of XAPI, written by the follower alone: it may be
emptied and rebuilt from the pool at any time without loss.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID, uuid4

from django.core.validators import URLValidator
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Sum
from django.db.models.functions import Coalesce, Greatest, Now

from hosting import keyring
from hosting.fleet.choices import (
    COMES_FROM,
    DIRECT_BOOTS,
    DISK_BOOTS,
    WAITS_FOR_FENCE,
    BootMode,
    HostState,
    PoolState,
)


class PoolQuerySet(models.QuerySet["Pool"]):
    def take_lead(self, token: UUID, lease: timedelta) -> bool:
        """Become the one follower of this pool, or stay it; False while another one is."""
        free = Q(followed_until__lte=Now()) | Q(follower_token=token)
        return bool(self.filter(free).update(follower_token=token, followed_until=Now() + lease))

    def give_up_lead(self, token: UUID) -> None:
        self.filter(follower_token=token).update(follower_token=None, followed_until=Now())


class Pool(models.Model):
    """A XAPI pool that we run. Its uuid is the pool's own."""

    uuid = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=63, unique=True, help_text="Our name for it.")
    url = models.CharField(
        max_length=200,
        validators=[URLValidator(schemes=["https"])],
        help_text='Tried first, e.g. "https://10.0.0.1"; gives the default port.',
    )
    username = models.CharField(max_length=255)
    sealed_password = models.TextField(editable=False)
    # Large, a certificate for each host: whoever joins pools to rows defers it.
    candidates = models.JSONField(
        default=list,
        help_text="Hosts at which the master may be found: address, pinned certificate, host uuid.",
    )
    boot_mode = models.CharField(max_length=4, choices=BootMode, default=BootMode.BIOS)
    boot_kernel = models.CharField(
        max_length=255, blank=True, help_text="Of a direct boot: its path on every host."
    )
    boot_ramdisk = models.CharField(max_length=255, blank=True)
    boot_args = models.CharField(
        max_length=1000, blank=True, help_text="The kernel's command line."
    )
    network_device = models.CharField(
        max_length=15,
        blank=True,
        db_default="",
        help_text="The hosts' interface that carries tenants' VLANs. Empty: instances get no network.",
    )
    # Of one host XAPI supports 800 VLANs.
    vlan_first = models.PositiveSmallIntegerField(default=1000, db_default=1000)
    vlan_last = models.PositiveSmallIntegerField(default=1799, db_default=1799)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    # The one follower, by lease.
    follower_token = models.UUIDField(null=True, editable=False)
    followed_until = models.DateTimeField(db_default=Now(), editable=False)

    # Observed
    state = models.CharField(
        max_length=11, choices=PoolState, default=PoolState.ENROLLED, editable=False
    )
    master = models.ForeignKey(
        "Host", models.SET_NULL, null=True, related_name="+", db_constraint=False, editable=False
    )
    default_sr_uuid = models.UUIDField(null=True, editable=False)
    ha_enabled = models.BooleanField(default=False, editable=False)
    version = models.CharField(max_length=120, blank=True, editable=False)
    last_seen_at = models.DateTimeField(
        null=True, editable=False, help_text="When the pool last answered its follower."
    )
    mirrored_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="The mirror holds everything that the pool knew at this time.",
    )

    objects = PoolQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="pool_state_is_known", condition=Q(state__in=PoolState.values)
            ),
            models.CheckConstraint(
                name="pool_has_a_kernel_to_boot_directly",
                condition=Q(boot_mode__in=DIRECT_BOOTS) & ~Q(boot_kernel="")
                | Q(
                    boot_mode__in=DISK_BOOTS,
                    boot_kernel="",
                    boot_ramdisk="",
                    boot_args="",
                ),
            ),
            models.CheckConstraint(
                name="pool_has_vlans",
                condition=Q(vlan_first__gte=1, vlan_last__lte=4094)
                & Q(vlan_last__gte=F("vlan_first")),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def password(self) -> str:
        """Raises BrokenSeal when the key ring has lost its key."""
        return keyring.unseal(self.sealed_password)

    @property
    def is_reachable(self) -> bool:
        return self.state == PoolState.CONNECTED


class HostQuerySet(models.QuerySet["Host"]):
    def present(self) -> HostQuerySet:
        """Hosts that their pool still lists."""
        return self.filter(gone_at=None)

    def with_reach(self, srs: Collection[UUID]) -> HostQuerySet:
        """Each with whether it reaches one of these storage repositories: `is_reaching`."""
        attached = Pbd.objects.filter(host=OuterRef("pk"), sr__in=srs, currently_attached=True)
        reach = {"is_reaching": Exists(attached)}
        return self.annotate(**reach)

    def accepting(self) -> HostQuerySet:
        """Hosts that new instances may be placed on."""
        return self.present().filter(state=HostState.ACCEPTING, enabled=True, live=True)

    def locked(self, uuid: UUID) -> Host | None:
        """This one, if its pool lists it, with nobody else changing it until the transaction ends."""
        return self.present().filter(pk=uuid).select_for_update(no_key=True).first()

    def hold_accepting(self, uuid: UUID) -> Host | None:
        """This one, if it takes new instances, and stays so until the transaction ends."""
        return self.accepting().filter(pk=uuid).select_for_update(no_key=True).first()

    def with_room_for(self, memory_bytes: int) -> HostQuerySet:
        """Accepting hosts that can take `memory_bytes` more, the emptiest first."""
        return (
            self.accepting()
            .filter(memory_capacity_bytes__gte=F("memory_reserved_bytes") + memory_bytes)
            .order_by(F("memory_reserved_bytes") - F("memory_capacity_bytes"), "pk")
        )

    def reserve(self, memory_bytes: int) -> bool:
        """Take `memory_bytes` on this one host if it is still there; False when another got it first."""
        _must_be_positive(memory_bytes)
        room = self.with_room_for(memory_bytes).order_by()
        return bool(room.update(memory_reserved_bytes=F("memory_reserved_bytes") + memory_bytes))

    def take_as_found(self, memory_bytes: int) -> bool:
        """Count what runs there already, whatever the host's state; False where that cannot be right."""
        _must_be_positive(memory_bytes)
        room = self.present().filter(
            memory_capacity_bytes__gte=F("memory_reserved_bytes") + memory_bytes
        )
        return bool(room.update(memory_reserved_bytes=F("memory_reserved_bytes") + memory_bytes))

    def release(self, memory_bytes: int) -> None:
        """Give back what was reserved. Raises IntegrityError when that is more than is reserved."""
        _must_be_positive(memory_bytes)
        self.update(memory_reserved_bytes=F("memory_reserved_bytes") - memory_bytes)

    def move_to(self, state: HostState) -> bool:
        """Change the state where that is allowed from the present one; False where it is not.

        A person's word that the machine is off holds for the state in which it was given, and ends here.
        """
        movable = self.filter(state__in=COMES_FROM[state])
        return bool(
            movable.update(
                state=state,
                state_changed_at=Now(),
                confirmed_off_by="",
                confirmed_off_at=None,
            )
        )

    def confirm_off(self, by: str) -> bool:
        """Write down who says that the machine has no power; False where nobody doubts that it has."""
        doubtful = self.filter(state__in=WAITS_FOR_FENCE)
        return bool(doubtful.update(confirmed_off_by=by, confirmed_off_at=Now()))

    def measure_capacity(self) -> None:
        """Set what instances may use: all memory less the hypervisor's and that of VMs not ours.

        Never below what is reserved: memory that vanished must not keep the mirror from being written;
        it keeps anything more from being reserved. One query, whatever the number of hosts. Source of
        the sum: xapi memory_check.ml.
        """
        foreign = (
            VirtualMachine.objects.filter(
                resident_on=models.OuterRef("pk"), instance_uuid=None, blank_uuid=None
            )
            .order_by()
            .values("resident_on")
            .annotate(bytes=Sum(F("memory_bytes") + F("memory_overhead_bytes")))
            .values("bytes")
        )
        measured = self.annotate(
            foreign_bytes=Coalesce(
                models.Subquery(foreign), 0, output_field=models.BigIntegerField()
            )
        )
        capacity = Greatest(
            F("memory_total_bytes") - F("memory_overhead_bytes") - F("foreign_bytes"),
            F("memory_reserved_bytes"),
        )
        # A row that stays as it is need not be written, and left behind dead, all the same.
        measured.exclude(memory_capacity_bytes=capacity).update(memory_capacity_bytes=capacity)


def _must_be_positive(memory_bytes: int) -> None:
    if memory_bytes <= 0:
        raise ValueError(f"memory is reserved and released in positive amounts, not {memory_bytes}")


class Host(models.Model):
    """A Xen host of a pool. The row outlives the host's membership: `gone_at` says that it left."""

    uuid = models.UUIDField(primary_key=True)
    pool = models.ForeignKey(Pool, models.CASCADE, related_name="hosts")

    # The ledger
    state = models.CharField(max_length=11, choices=HostState, default=HostState.ACCEPTING)
    state_changed_at = models.DateTimeField(db_default=Now(), editable=False)
    confirmed_off_by = models.CharField(
        max_length=120,
        blank=True,
        db_default="",
        editable=False,
        help_text="Who vouched that the machine has no power, where no fence could prove it.",
    )
    confirmed_off_at = models.DateTimeField(null=True, editable=False)
    memory_reserved_bytes = models.PositiveBigIntegerField(default=0, editable=False)
    bmc_url = models.CharField(
        max_length=200,
        blank=True,
        validators=[URLValidator(schemes=["https"])],
        help_text="Redfish service root of its BMC.",
    )
    bmc_username = models.CharField(max_length=255, blank=True)
    sealed_bmc_password = models.TextField(blank=True, editable=False)
    bmc_certificate = models.TextField(blank=True, help_text="PEM, pinned.")

    # Observed
    name = models.TextField(editable=False)
    address = models.TextField(editable=False, help_text="Where its own API answers.")
    enabled = models.BooleanField(default=False, editable=False)
    live = models.BooleanField(default=False, editable=False)
    cpu_count = models.PositiveIntegerField(default=0, editable=False)
    memory_total_bytes = models.BigIntegerField(default=0, editable=False)
    memory_overhead_bytes = models.BigIntegerField(default=0, editable=False)
    memory_free_bytes = models.BigIntegerField(default=0, editable=False)
    memory_capacity_bytes = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="What instances of ours may use, reserved or not."
    )
    version = models.CharField(max_length=120, blank=True, editable=False)
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    gone_at = models.DateTimeField(null=True, editable=False)

    objects = HostQuerySet.as_manager()

    # By with_reach()
    is_reaching: bool
    # By hosts_as_seen()
    is_warm: bool

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="host_memory_not_oversold",
                condition=Q(memory_reserved_bytes__lte=F("memory_capacity_bytes")),
            ),
            models.CheckConstraint(
                name="host_state_is_known", condition=Q(state__in=HostState.values)
            ),
            models.CheckConstraint(
                name="host_is_confirmed_off_by_somebody_while_in_doubt",
                condition=Q(confirmed_off_at=None, confirmed_off_by="")
                | Q(confirmed_off_at__isnull=False, state__in=sorted(WAITS_FOR_FENCE))
                & ~Q(confirmed_off_by=""),
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.uuid)

    @property
    def bmc_password(self) -> str:
        return keyring.unseal(self.sealed_bmc_password) if self.sealed_bmc_password else ""

    @property
    def is_confirmed_off(self) -> bool:
        return self.confirmed_off_at is not None

    @property
    def is_master(self) -> bool:
        return self.pool.master_id == self.pk

    @property
    def memory_unreserved_bytes(self) -> int:
        return self.memory_capacity_bytes - self.memory_reserved_bytes


class Mirrored(models.Model):
    """A row that the follower alone writes, and may drop.

    References are as XAPI gave them, perhaps to a row that has not been seen yet: hence no constraints.
    """

    uuid = models.UUIDField(primary_key=True, default=uuid4)
    pool = models.ForeignKey(Pool, models.CASCADE, related_name="+")

    class Meta:
        abstract = True


class StorageRepository(Mirrored):
    name = models.TextField()
    type = models.CharField(max_length=63)
    content_type = models.CharField(max_length=63, blank=True)
    shared = models.BooleanField(default=False)
    # XAPI says -1 where it cannot know.
    physical_size_bytes = models.BigIntegerField(default=0)
    physical_utilisation_bytes = models.BigIntegerField(default=0)
    virtual_allocation_bytes = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "storage repositories"

    def __str__(self) -> str:
        return self.name


class Pbd(Mirrored):
    """Which host reaches which SR: only where attached."""

    host = models.ForeignKey(
        "Host", models.DO_NOTHING, null=True, related_name="pbds", db_constraint=False
    )
    sr = models.ForeignKey(
        "StorageRepository", models.DO_NOTHING, null=True, related_name="pbds", db_constraint=False
    )
    currently_attached = models.BooleanField(default=False)

    class Meta:
        verbose_name = "PBD"

    def __str__(self) -> str:
        return f"{self.host_id} ↔ {self.sr_id}"


class Network(Mirrored):
    name = models.TextField()
    bridge = models.CharField(max_length=63, blank=True)
    mtu = models.IntegerField(default=1500)
    marker = models.JSONField(default=dict)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Vdi(Mirrored):
    """A disk, finished or not, ours or not."""

    name = models.TextField()
    sr = models.ForeignKey(
        "StorageRepository", models.DO_NOTHING, null=True, related_name="vdis", db_constraint=False
    )
    virtual_size_bytes = models.BigIntegerField(default=0)
    physical_utilisation_bytes = models.BigIntegerField(default=0)
    type = models.CharField(max_length=63, blank=True)
    is_a_snapshot = models.BooleanField(default=False)
    missing = models.BooleanField(default=False)
    marker = models.JSONField(default=dict)
    locked_by = models.JSONField(default=list, help_text="uuids of the hosts that hold it")

    class Meta:
        verbose_name = "VDI"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class VirtualMachine(Mirrored):
    """A VM, template, snapshot or control domain of the pool, ours or not."""

    name = models.TextField()
    power_state = models.CharField(max_length=9)
    resident_on = models.ForeignKey(
        "Host", models.DO_NOTHING, null=True, related_name="virtual_machines", db_constraint=False
    )
    scheduled_to_be_resident_on = models.ForeignKey(
        "Host",
        models.DO_NOTHING,
        null=True,
        related_name="scheduled_virtual_machines",
        db_constraint=False,
    )
    is_a_template = models.BooleanField(default=False)
    is_a_snapshot = models.BooleanField(default=False)
    is_control_domain = models.BooleanField(default=False)
    memory_bytes = models.BigIntegerField(default=0)
    memory_overhead_bytes = models.BigIntegerField(default=0)
    vcpus = models.IntegerField(default=0)
    marker = models.JSONField(default=dict)
    instance_uuid = models.UUIDField(
        null=True, db_index=True, help_text="From our marker; null on VMs that are not ours."
    )
    blank_uuid = models.UUIDField(
        null=True, db_index=True, help_text="From our marker; of a VM that no instance has taken."
    )
    current_operations = models.JSONField(default=list, help_text="e.g. pool_migrate")
    started_at = models.DateTimeField(null=True)
    pv_drivers_detected = models.BooleanField(
        default=False, db_default=False, help_text="Its kernel is up and speaks to Xen."
    )
    # Written by the guest: hostile.
    guest_networks = models.JSONField(default=dict)
    vm_data = models.JSONField(default=dict)

    class Meta:
        verbose_name = "VM"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def guest_addresses(self) -> list[str]:
        """Each once: guests tell them by several names."""
        return list(dict.fromkeys(map(str, self.guest_networks.values())))

    @property
    def is_ours(self) -> bool:
        return self.instance_uuid is not None or self.blank_uuid is not None


class Vbd(Mirrored):
    vm = models.ForeignKey(
        "VirtualMachine", models.DO_NOTHING, null=True, related_name="vbds", db_constraint=False
    )
    vdi = models.ForeignKey(
        "Vdi", models.DO_NOTHING, null=True, related_name="vbds", db_constraint=False
    )
    device = models.IntegerField()
    currently_attached = models.BooleanField(default=False)

    class Meta:
        verbose_name = "VBD"

    def __str__(self) -> str:
        return f"{self.vm_id} · {self.device}"


class Vif(Mirrored):
    vm = models.ForeignKey(
        "VirtualMachine", models.DO_NOTHING, null=True, related_name="vifs", db_constraint=False
    )
    network = models.ForeignKey(
        "Network", models.DO_NOTHING, null=True, related_name="vifs", db_constraint=False
    )
    device = models.IntegerField()
    mac = models.CharField(max_length=17)
    locking_mode = models.CharField(max_length=15)
    ipv4_allowed = models.JSONField(default=list)
    currently_attached = models.BooleanField(default=False)

    class Meta:
        verbose_name = "VIF"

    def __str__(self) -> str:
        return f"{self.vm_id} · {self.device}"
