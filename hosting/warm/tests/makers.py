"""Rows for tests; every argument may be given."""

from dataclasses import asdict
from typing import Any
from uuid import uuid4

from hosting.compute.models import Instance
from hosting.compute.services import Sizes
from hosting.compute.tests.makers import MIB, OVERHEAD
from hosting.fleet.models import Host, Pool
from hosting.warm.models import Blank

SIZES = Sizes(1, 256 * MIB, 1024 * MIB)
SR = uuid4()


def make_blank(host: Host, **given: Any) -> Blank:
    """A ready one, its memory reserved. Its host's pool boots kernels of its hosts' from now on, and has its disks
    on `SR`.
    """
    boot = {"boot_mode": "pvh", "boot_kernel": "/boot/guest/vmlinuz"}
    Pool.objects.filter(pk=host.pool_id).update(**boot, default_sr_uuid=SR)
    size = {**asdict(SIZES), **given}
    blank = Blank.objects.create(pool=host.pool, host=host, **size)
    assert Blank.objects.all().reserve(blank, blank.memory_bytes + OVERHEAD)
    assert Blank.objects.all().note_ready(blank, uuid4(), uuid4())
    return Blank.objects.get(pk=blank.pk)


def take(instance: Instance, host: Host) -> Blank | None:
    """One that fits it, if there is any. In a transaction."""
    return Blank.objects.all().take(instance, host.pk, [SR])
