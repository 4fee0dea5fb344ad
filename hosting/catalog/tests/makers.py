"""Rows for tests; every argument may be given."""

from itertools import count
from typing import Any
from uuid import uuid4

from hosting.catalog.choices import DiskState
from hosting.catalog.models import GoldenDisk, Image, ImageVersion
from hosting.fleet.models import Pool
from tenants.models import Tenant

_numbers = count(1)


def make_digest() -> str:
    return f"sha256:{next(_numbers):064x}"


def make_image(tenant: Tenant | None = None, *, imported: bool = True, **given: Any) -> Image:
    """An image for everybody unless `tenant` is given, imported unless told otherwise."""
    name = given.pop("name", f"image{next(_numbers)}")
    reference = given.pop("reference", f"registry.example/{name}:1")
    image = Image.objects.create(tenant=tenant, name=name, reference=reference, **given)
    if imported:
        image.current = make_version(image)
        image.save()
    return image


def make_version(image: Image, **given: Any) -> ImageVersion:
    fields: dict[str, Any] = {"digest": make_digest(), "config": {"cmd": ["/bin/serve"]}}
    return ImageVersion.objects.create(image=image, **{**fields, **given})


def make_golden_disk(version: ImageVersion, pool: Pool, **given: Any) -> GoldenDisk:
    """A ready one."""
    fields: dict[str, Any] = {
        "digest": version.digest,
        "builder_version": "1",
        "sr_uuid": pool.default_sr_uuid or uuid4(),
        "state": DiskState.READY,
        "vdi_uuid": uuid4(),
    }
    return GoldenDisk.objects.create(pool=pool, **{**fields, **given})
