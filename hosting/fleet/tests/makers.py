"""Rows for tests, each as plain as its test lets it be."""

from typing import Any
from uuid import uuid4

from hosting import keyring
from hosting.fleet.choices import PoolState, PowerState
from hosting.fleet.models import Host, Pool, VirtualMachine

GIB = 2**30


def make_pool(**given: Any) -> Pool:
    uuid = given.pop("uuid", uuid4())
    fields: dict[str, Any] = {
        "name": f"pool-{uuid}",
        "url": "https://192.0.2.1",
        "username": "root",
        "sealed_password": keyring.seal("secret"),
        "state": PoolState.CONNECTED,
    }
    return Pool.objects.create(uuid=uuid, **{**fields, **given})


def make_host(pool: Pool | None = None, **given: Any) -> Host:
    """An accepting, live host with room for 4 GiB."""
    fields: dict[str, Any] = {
        "name": "xen-1",
        "address": "192.0.2.1",
        "enabled": True,
        "live": True,
        "cpu_count": 8,
        "memory_total_bytes": 4 * GIB,
        "memory_capacity_bytes": 4 * GIB,
    }
    fields.update(given)
    return Host.objects.create(uuid=fields.pop("uuid", uuid4()), pool=pool or make_pool(), **fields)


def make_vm(pool: Pool, **given: Any) -> VirtualMachine:
    fields: dict[str, Any] = {"name": "vm", "power_state": PowerState.RUNNING}
    return VirtualMachine.objects.create(pool=pool, **{**fields, **given})
