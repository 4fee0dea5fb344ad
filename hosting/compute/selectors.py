"""Reading containers, always through their tenant. Every list costs a constant number of queries."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, OuterRef, Prefetch, QuerySet, Subquery, Value, When

from hosting.compute.choices import DesiredState, Status
from hosting.compute.exits import Exit, exit_of
from hosting.compute.models import Container, ContainerQuerySet, Instance, InstanceQuerySet
from hosting.errors import NotFound
from hosting.fleet.choices import PowerState
from hosting.fleet.models import Host
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.models import Tenant

_UNDER_WAY = {
    "instance.provision": Status.CREATING,
    "instance.start": Status.STARTING,
    "instance.stop": Status.STOPPING,
    "instance.restart": Status.RESTARTING,
    "instance.resize": Status.RESIZING,
    "instance.migrate": Status.MOVING,
    "instance.teardown": Status.DELETING,
    "instance.adopt": Status.RUNNING,
}


@dataclass(frozen=True, slots=True)
class Observed:
    """A container as people look at it: the wish's row, the fact's row, and what goes on between them."""

    container: Container
    instance: Instance | None
    operation: Operation | None
    status: Status

    @property
    def exit(self) -> Exit | None:
        """How it ended, once it has; None when its guest did not say."""
        if self.instance is None or self.status not in (Status.EXITED, Status.STOPPED):
            return None
        return exit_of(self.instance.vm_data)


def containers_of(tenant: Tenant) -> ContainerQuerySet:
    """Those not yet gone, by name, each with `living_instances` and their `active_operations`."""
    return (
        Container.objects.all()
        .owned_by(tenant)
        .select_related("version__image", "tenant")
        .prefetch_related(_LIVING)
        .order_by("name")
    )


def find_container(*, tenant: Tenant, uuid: UUID) -> Container:
    """Raises NotFound, for another tenant's as well."""
    container = containers_of(tenant).filter(pk=uuid).first()
    if container is None:
        raise NotFound("There is no such container.", container=uuid)
    return container


def containers() -> ContainerQuerySet:
    """All present ones, for operators, as `containers_of` gives them."""
    return (
        Container.objects.all()
        .present()
        .select_related("version__image", "tenant")
        .prefetch_related(_LIVING)
        .order_by("tenant__slug", "name")
    )


def observe(container: Container) -> Observed:
    """No query when `container` comes from a selector of this module."""
    instance = next(iter(_living_of(container)), None)
    operation = next(iter(_active_of(instance)), None) if instance is not None else None
    return Observed(container, instance, operation, status_of(container, instance, operation))


def status_of(
    container: Container, instance: Instance | None, operation: Operation | None
) -> Status:
    """One word for people. `instance` must come with facts."""
    if container.desired_state == DesiredState.DELETED:
        return Status.DELETING
    if operation is not None:
        return _UNDER_WAY.get(operation.kind, Status.UNKNOWN)
    if instance is None or instance.published_at is None:
        return Status.FAILED
    if instance.power_state == PowerState.RUNNING:
        return Status.RUNNING
    if instance.power_state is None:
        return Status.UNKNOWN
    return Status.STOPPED if container.desired_state == DesiredState.STOPPED else Status.EXITED


def in_status(containers: ContainerQuerySet, status: Status) -> ContainerQuerySet:
    """Those of which status_of says `status`."""
    found: ContainerQuerySet = _with_status(containers).filter(status=status)
    return found


def _with_status(containers: ContainerQuerySet) -> Any:
    """Each with `status`: what status_of says, asked of the database, since lists come in pages."""
    living: Any = Instance.objects.all().living().with_facts().filter(container=OuterRef("pk"))
    active = _active().filter(instance__container=OuterRef("pk"), instance__ended_at=None)
    facts = {
        "published": Subquery(living.values("published_at")[:1]),
        "power": Subquery(living.values("power_state")[:1]),
        "doing": Subquery(active.values("kind")[:1]),
    }
    status = Case(
        When(desired_state=DesiredState.DELETED, then=Value(Status.DELETING)),
        *(When(doing=kind, then=Value(word)) for kind, word in _UNDER_WAY.items()),
        When(doing__isnull=False, then=Value(Status.UNKNOWN)),
        When(published=None, then=Value(Status.FAILED)),
        When(power=PowerState.RUNNING, then=Value(Status.RUNNING)),
        When(power=None, then=Value(Status.UNKNOWN)),
        When(desired_state=DesiredState.STOPPED, then=Value(Status.STOPPED)),
        default=Value(Status.EXITED),
    )
    return containers.alias(**facts).annotate(status=status)


def count_by_status(containers: ContainerQuerySet) -> dict[Status, int]:
    """How many there are of each status that there is, in the order of Status. One query."""
    counted = _with_status(containers).order_by().values("status").annotate(number=Count("pk"))
    found = {row["status"]: row["number"] for row in counted}
    return {status: found[status] for status in Status if status in found}


def living_instance_of(container: Container) -> Instance:
    """Raises NotFound when the container has come to its end."""
    instance = Instance.objects.all().living().filter(container=container).first()
    if instance is None:
        raise NotFound("There is no such container.", container=container.pk)
    return instance


def tenants_of_instances(instances: Collection[UUID]) -> set[UUID]:
    """Whose these are. One query; none for none."""
    if not instances:
        return set()
    theirs = Instance.objects.filter(pk__in=instances).order_by()
    return set(theirs.values_list("container__tenant_id", flat=True))


def instances_on(host: Host) -> InstanceQuerySet:
    """What holds memory of this host, for operators, each with its `active_operations`."""
    return (
        Instance.objects.all()
        .living()
        .on(host)
        .with_facts()
        .select_related("container__tenant", "host", "target")
        .prefetch_related(Prefetch("operations", _active(), to_attr="active_operations"))
        .order_by("container__name", "uuid")
    )


def observe_instance(instance: Instance) -> Observed:
    """No query when `instance` comes from `instances_on`."""
    operation = next(iter(_active_of(instance)), None)
    status = status_of(instance.container, instance, operation)
    return Observed(instance.container, instance, operation, status)


def _active() -> QuerySet[Operation]:
    return Operation.objects.filter(state=State.ACTIVE)


_LIVING: Prefetch[str] = Prefetch(
    "instances",
    Instance.objects.all()
    .living()
    .with_facts()
    .select_related("host", "target", "pool")
    .defer("pool__candidates")
    .prefetch_related(Prefetch("operations", _active(), to_attr="active_operations")),
    to_attr="living_instances",
)


def _living_of(container: Container) -> list[Instance]:
    if not hasattr(container, "living_instances"):
        return list(Instance.objects.all().living().with_facts().filter(container=container))
    found: list[Instance] = container.living_instances
    return found


def _active_of(instance: Instance) -> list[Operation]:
    if not hasattr(instance, "active_operations"):
        return list(_active().filter(instance=instance))
    found: list[Operation] = instance.active_operations
    return found
