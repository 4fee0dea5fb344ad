"""An image comes into the catalogue: pinned by digest, built once, and put on each pool's shared storage.

What is on a pool already is only noted. A disk counts when its marker says that all of the image is in it,
which is written last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from hosting import labels
from hosting.catalog.choices import DiskState
from hosting.catalog.models import GoldenDisk, Image, ImageVersion
from hosting.fleet.models import Pool, StorageRepository
from worker import machines
from worker.hypervisor.port import Hypervisor, Refused, VdiRecord, VdiSpec
from worker.images import (
    ImageRefused,
    Images,
    ImageUnavailable,
    InvalidReference,
    Reference,
    disk_pieces,
)
from worker.workflow import Done, Facts, Failed, Next, Outcome, Wait, Workflow

LOOK_AGAIN = timedelta(seconds=30)
IMPORT_TIMEOUT = timedelta(minutes=8)

find_images: Callable[[], Images] = Images.by_settings

import_image = Workflow[Image](
    "image.import",
    subject="image",
    first="begin",
    undo="begin_to_unmake",
    deadline=timedelta(hours=1),
)


@import_image.ledger
def begin(image: Image, facts: Facts) -> Outcome:
    """Any pool that has storage to share: the image is asked for first."""
    pool = _pools().first()
    if pool is None:
        return Wait(LOOK_AGAIN, "No pool has shared storage.")
    Image.objects.filter(pk=image.pk).update(pool=pool)
    return Next(resolve, tenant=image.tenant.slug if image.tenant else "")


def _pools() -> QuerySet[Pool]:
    """Pools whose default SR all their hosts share, as we know them now."""
    shared = StorageRepository.objects.filter(uuid=OuterRef("default_sr_uuid"), shared=True)
    return Pool.objects.filter(Exists(shared)).order_by("created_at", "pk")


@import_image.remote
def resolve(image: Image, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """Which bytes the name means now, or those that were asked for. Only these are ever run."""
    try:
        reference = Reference.parse(image.reference)
        if "digest" in facts:
            reference = reference.pinned(facts["digest"])
        images = find_images()
        found = images.resolve(reference, limits=images.limits_of(facts.get("tenant", "")))
    except InvalidReference as wrong:
        return Failed("invalid_reference", str(wrong))
    except ImageRefused as refused:
        return Failed(refused.code, refused.public)
    except ImageUnavailable as later:
        return Wait(later.retry_after or LOOK_AGAIN, later.public)
    return Next(pin, digest=found.digest, pinned=str(found.reference), config=asdict(found.config))


@import_image.ledger
def pin(image: Image, facts: Facts) -> Outcome:
    """The next pool that has not got it."""
    version, _ = ImageVersion.objects.get_or_create(
        image=image, digest=facts["digest"], defaults={"config": facts["config"]}
    )
    builder = find_images().builder.name
    for pool in _pools():
        assert pool.default_sr_uuid is not None
        disk, _ = GoldenDisk.objects.get_or_create(
            digest=version.digest,
            builder_version=builder,
            sr_uuid=pool.default_sr_uuid,
            defaults={"pool": pool},
        )
        if disk.state != DiskState.READY:
            Image.objects.filter(pk=image.pk).update(pool=pool)
            return Next(fill, disk=disk.pk, sr=disk.sr_uuid, builder=builder)
    Image.objects.filter(pk=image.pk).update(current=version)
    return Done()


@import_image.remote
def fill(image: Image, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """A disk that is only partly filled cannot be gone on with: it is made anew."""
    found = _find(facts, hypervisor)
    if found is None or found.marker.get(labels.IMAGE) != facts["digest"]:
        try:
            found = _build(facts, hypervisor, found)
        except ImageRefused as refused:
            return Next(unmake_refused, code=refused.code, why=refused.public)
        except ImageUnavailable as later:
            return Wait(later.retry_after or LOOK_AGAIN, later.public)
        except Refused as no:  # an upload that failed is begun again with a new disk (XAPI.md 4.5)
            failures = int(facts.get("failures", 0)) + 1
            if no.reason != machines.IMPORT_FAILED or failures == machines.TRIES:
                raise
            return Next(fill, failures=failures)
    return Next(publish, vdi=found.uuid, size=found.virtual_size_bytes)


def _find(facts: Facts, hypervisor: Hypervisor) -> VdiRecord | None:
    name = labels.image_name(facts["digest"], facts["builder"])
    return hypervisor.find_vdi(name, sr=UUID(facts["sr"]))


def _build(facts: Facts, hypervisor: Hypervisor, partly: VdiRecord | None) -> VdiRecord:
    images = find_images()
    limits = images.limits_of(facts.get("tenant", ""))
    with images.spool.file() as file:
        image = images.resolve(Reference.parse(facts["pinned"]), limits=limits)
        root = images.build(image, file, limits=limits)
        if partly is not None:
            hypervisor.destroy_vdi(partly.uuid)
        name = labels.image_name(facts["digest"], facts["builder"])
        filling = {labels.FILLING: facts["digest"]}
        vdi = hypervisor.ensure_vdi(VdiSpec(name, filling, UUID(facts["sr"]), root.size_bytes))
        hypervisor.import_vdi(vdi.uuid, disk_pieces(file, root.size_bytes), timeout=IMPORT_TIMEOUT)
    hypervisor.set_vdi_marker(vdi.uuid, {labels.IMAGE: facts["digest"]})
    return vdi


@import_image.ledger(can_turn_back=False)
def publish(image: Image, facts: Facts) -> Outcome:
    """It may be cloned; containers may be made of it as soon as one pool has it."""
    GoldenDisk.objects.filter(pk=facts["disk"]).update(
        state=DiskState.READY, vdi_uuid=facts["vdi"], size_bytes=facts["size"]
    )
    version = ImageVersion.objects.get(image=image, digest=facts["digest"])
    Image.objects.filter(pk=image.pk).update(current=version)
    return Next(pin)


# ------------------------------------------------------------------------------------------- the way back


@import_image.ledger
def begin_to_unmake(image: Image, facts: Facts) -> Outcome:
    """One that is not being written yet may be in no pool."""
    return Next(unmake if "disk" in facts else forget)


@import_image.remote
def unmake(image: Image, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    _unmake(facts, hypervisor)
    return Next(forget)


@import_image.remote(can_turn_back=False)
def unmake_refused(image: Image, facts: Facts, hypervisor: Hypervisor) -> Outcome:
    """What the registry gave is not fit to be run."""
    _unmake(facts, hypervisor)
    return Next(forget)


def _unmake(facts: Facts, hypervisor: Hypervisor) -> None:
    """A disk that is whole stays: others may have cloned it."""
    found = _find(facts, hypervisor)
    if found is not None and labels.IMAGE not in found.marker:
        hypervisor.destroy_vdi(found.uuid)


@import_image.ledger(can_turn_back=False)
def forget(image: Image, facts: Facts) -> Outcome:
    """The entry stays in the list and says why, until it is tried again or removed."""
    if "disk" in facts:
        GoldenDisk.objects.filter(pk=facts["disk"]).exclude(state=DiskState.READY).delete()
    return Failed(facts.get("code", "failed"), facts.get("why", ""))
