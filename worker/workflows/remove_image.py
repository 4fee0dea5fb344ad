"""An image has left the catalogue: its disks go, one after the other, unless somebody needs them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hosting import labels
from hosting.catalog.choices import DiskState
from hosting.catalog.models import GoldenDisk, Image, ImageVersion
from worker.hypervisor.port import Hypervisor
from worker.workflow import Done, Facts, Next, Outcome, Workflow

remove_image = Workflow[Image](
    "image.remove", subject="image", first="take_next", deadline=timedelta(hours=1)
)


@remove_image.ledger
def take_next(image: Image, facts: Facts) -> Outcome:
    """Nothing is cloned any more from a disk that is not ready."""
    digests = ImageVersion.objects.filter(image=image).values("digest")
    disk = GoldenDisk.objects.all().needless().filter(digest__in=digests).order_by("pk").first()
    if disk is None:
        return Done()
    GoldenDisk.objects.filter(pk=disk.pk).update(state=DiskState.IMPORTING)
    Image.objects.filter(pk=image.pk).update(pool=disk.pool_id)
    name = labels.image_name(disk.digest, disk.builder_version)
    return Next(destroy, disk=disk.pk, name=name, sr=disk.sr_uuid)


@remove_image.remote
def destroy(image: Image, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    vdi = hypervisor.find_vdi(facts["name"], sr=UUID(facts["sr"]))
    if vdi is not None:
        hypervisor.destroy_vdi(vdi.uuid)
    return Next(drop)


@remove_image.ledger
def drop(image: Image, facts: Facts) -> Outcome:
    GoldenDisk.objects.filter(pk=facts["disk"], state=DiskState.IMPORTING).delete()
    return Next(take_next)
