"""Rows for tests; every argument may be given."""

from typing import Any
from uuid import uuid4

from hosting.compute.tests.makers import MIB, OVERHEAD
from hosting.fleet.models import Host, Pool
from hosting.warm.models import Blank


def make_blank(host: Host, **given: Any) -> Blank:
    """A ready one, its memory reserved. Its host's pool boots kernels of its hosts' from now on."""
    boot = {"boot_mode": "pvh", "boot_kernel": "/boot/guest/vmlinuz"}
    Pool.objects.filter(pk=host.pool_id).update(**boot)
    size = {"vcpus": 1, "memory_bytes": 256 * MIB, **given}
    blank = Blank.objects.create(pool=host.pool, host=host, **size)
    assert Blank.objects.all().reserve(blank, blank.memory_bytes + OVERHEAD)
    assert Blank.objects.all().note_ready(blank, uuid4())
    return Blank.objects.get(pk=blank.pk)
