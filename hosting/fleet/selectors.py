"""Reading the fleet, for pages and programs. Every list costs a constant number of queries."""

from dataclasses import dataclass

from django.db.models import Count, Prefetch, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from hosting.fleet.choices import PowerState
from hosting.fleet.models import Host, HostQuerySet, Pbd, Pool, StorageRepository, VirtualMachine

_GUEST = Q(is_control_domain=False, is_a_template=False, is_a_snapshot=False)


@dataclass(frozen=True, slots=True)
class PoolSummary:
    """Counts over one pool. Hosts that left it do not count; sizes are bytes."""

    hosts: int
    hosts_live: int
    hosts_accepting: int
    memory_total_bytes: int
    memory_free_bytes: int
    memory_capacity_bytes: int
    memory_reserved_bytes: int
    cpu_count: int
    vms: int
    vms_running: int
    vms_ours: int


def pools() -> QuerySet[Pool]:
    return Pool.objects.select_related("master")


def hosts_of(pool: Pool) -> HostQuerySet:
    """Those that the pool lists, as `hosts` gives them."""
    return hosts().filter(pool=pool)


def hosts() -> HostQuerySet:
    """Hosts that their pool lists, each with `vm_count` and `running_vm_count` (guests on it)."""
    guests = Q(
        virtual_machines__is_control_domain=False,
        virtual_machines__is_a_template=False,
        virtual_machines__is_a_snapshot=False,
    )
    running = guests & Q(virtual_machines__power_state=PowerState.RUNNING)
    return (
        Host.objects.present()
        .select_related("pool")
        .defer("pool__candidates")
        .annotate(
            vm_count=Count("virtual_machines", filter=guests),
            running_vm_count=Count("virtual_machines", filter=running),
        )
        .order_by("name", "uuid")
    )


def guests_of(pool: Pool) -> QuerySet[VirtualMachine]:
    """The pool's VMs as people mean it: no templates, snapshots or control domains."""
    return (
        VirtualMachine.objects.filter(_GUEST, pool=pool)
        .select_related("resident_on")
        .order_by("name", "uuid")
    )


def guests_on(host: Host) -> QuerySet[VirtualMachine]:
    return guests_of(host.pool).filter(resident_on=host)


def storage_of(pool: Pool) -> QuerySet[StorageRepository]:
    """The pool's SRs, each with its `pbds` and their hosts."""
    return (
        StorageRepository.objects.filter(pool=pool)
        .prefetch_related(Prefetch("pbds", Pbd.objects.select_related("host")))
        .order_by("name", "uuid")
    )


def summary_of(pool: Pool) -> PoolSummary:
    """Two queries."""
    hosts = (
        Host.objects.present()
        .filter(pool=pool)
        .aggregate(
            hosts=Count("pk"),
            hosts_live=Count("pk", filter=Q(live=True)),
            hosts_accepting=Count("pk", filter=Q(state="accepting", enabled=True, live=True)),
            memory_total_bytes=Coalesce(Sum("memory_total_bytes"), 0),
            memory_free_bytes=Coalesce(Sum("memory_free_bytes"), 0),
            memory_capacity_bytes=Coalesce(Sum("memory_capacity_bytes"), 0),
            memory_reserved_bytes=Coalesce(Sum("memory_reserved_bytes"), 0),
            cpu_count=Coalesce(Sum("cpu_count"), 0),
        )
    )
    vms = VirtualMachine.objects.filter(_GUEST, pool=pool).aggregate(
        vms=Count("pk"),
        vms_running=Count("pk", filter=Q(power_state=PowerState.RUNNING)),
        vms_ours=Count("pk", filter=Q(instance_uuid__isnull=False) | Q(blank_uuid__isnull=False)),
    )
    return PoolSummary(**hosts, **vms)
