"""Rows for tests; every argument may be given."""

from typing import Any

from django.db import transaction

from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import make_pool
from hosting.networks.models import Network, Segment
from tenants.models import Tenant
from tenants.tests.makers import make_tenant


def make_network(tenant: Tenant | None = None) -> Network:
    tenant = tenant or make_tenant()
    with transaction.atomic():
        network = Network.objects.take(tenant.pk)
    assert network is not None
    return network


def make_segment(tenant: Tenant | None = None, pool: Pool | None = None, **given: Any) -> Segment:
    """A tenant's network in a pool, not made there yet."""
    fields: dict[str, Any] = {"device": "eth1", "tag": 1000, **given}
    return Segment.objects.create(
        network=make_network(tenant), pool=pool or make_pool(network_device="eth1"), **fields
    )
