"""Rows for tests; every argument may be given."""

from dataclasses import asdict
from itertools import count
from typing import Any

from django.db.models.functions import Now

from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container, Instance
from hosting.compute.services import Sizes
from hosting.fleet.models import Host
from tenants.models import Tenant
from tenants.services import take_quota
from tenants.tests.makers import make_tenant

_numbers = count(1)
MIB = 2**20
OVERHEAD = 8 * MIB


def make_container(tenant: Tenant | None = None, **given: Any) -> Container:
    """A container as services leave it, its quota taken, with an instance that nothing is done with."""
    tenant = tenant or make_tenant()
    sizes = asdict(Sizes())
    instance = given.pop("instance", {})
    fields: dict[str, Any] = {"name": f"app{next(_numbers)}", **sizes}
    if "version" not in given:
        version = make_image(tenant).current
        assert version is not None
        fields["version"] = version
    container = Container.objects.create(tenant=tenant, **{**fields, **given})
    made = Instance.objects.create(
        container=container,
        generation=container.generation,
        **{name: getattr(container, name) for name in sizes},
        **instance,
    )
    take_quota(tenant, container.holds(made))
    return container


def make_instance(
    tenant: Tenant | None = None, *, host: Host | None = None, **given: Any
) -> Instance:
    """The instance of a container of its own; on `host`, memory is reserved for it and it has run."""
    container = make_container(tenant, instance=given)
    instance = Instance.objects.get(container=container)
    if host is not None:
        assert Instance.objects.all().take_host(instance, host.pk, instance.memory_bytes + OVERHEAD)
        Instance.objects.filter(pk=instance.pk).update(published_at=Now(), started_at=Now())
        instance.refresh_from_db()
    return instance
