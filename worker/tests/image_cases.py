"""The cases of workflows over images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, BinaryIO

from hosting import labels
from hosting.catalog.models import GoldenDisk, Image
from hosting.catalog.tests.makers import make_digest
from hosting.operations.models import Operation
from worker.images import ImageConfig, ImageError, Limits, Reference, Resolved, RootDisk
from worker.tests.case import Case
from worker.tests.support import run_to_end
from worker.tests.worlds import REGISTRY, World
from worker.workflows.import_image import import_image
from worker.workflows.remove_image import remove_image

BUILDER = "fake-1"


class _Builder:
    name = BUILDER


class _Spool:
    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        yield BytesIO()


@dataclass
class FakeImages:
    """A registry and a builder in memory; `fails_with` is raised by the next call, then no more."""

    digest: str = field(default_factory=make_digest)
    fails_with: list[ImageError] = field(default_factory=list)
    built: int = 0
    asked_for: list[str] = field(default_factory=list)
    """Whose limits were asked for."""
    builder = _Builder()
    spool = _Spool()

    def limits_of(self, tenant: str) -> Limits:
        self.asked_for.append(tenant)
        return Limits()

    def resolve(self, reference: Reference, *, limits: Limits) -> Resolved:
        self._fail()
        config = ImageConfig(cmd=("/bin/serve",), env=("A=b",))
        return Resolved(reference.pinned(self.digest), self.digest, config, ())

    def build(self, image: Resolved, target: BinaryIO, *, limits: Limits) -> RootDisk:
        self._fail()
        content = image.digest.encode().ljust(2**20, b"\0")
        target.write(content)
        self.built += 1
        return RootDisk(len(content), BUILDER)

    def _fail(self) -> None:
        if self.fails_with:
            raise self.fails_with.pop(0)


class ImportImageCase(Case):
    kind = import_image.kind

    def __init__(self) -> None:
        self.world = World()
        # Of other worlds' pools this hypervisor knows nothing.
        others = type(self.world.row).objects.exclude(pk=self.world.row.pk)
        others.update(default_sr_uuid=None)
        self.hypervisor = self.world.pool
        self.images = FakeImages()
        REGISTRY["now"] = self.images
        self.image = Image.objects.create(
            tenant=self.world.tenant, name="web", reference="registry.example/web:1"
        )
        self.prepare()
        self.operation = Operation.objects.create(
            kind=self.kind, image=self.image, requested_by="t"
        )

    def prepare(self) -> None:
        """What else must be true before."""

    def disks(self) -> list[Any]:
        return [vdi for vdi in self.hypervisor.vdis() if vdi.name.startswith("image-")]

    def assert_arrived(self) -> None:
        self.image.refresh_from_db()
        assert self.image.current is not None
        assert self.image.current.digest == self.images.digest
        assert self.image.current.config["cmd"] == ["/bin/serve"]
        golden = GoldenDisk.objects.all().ready().get(digest=self.images.digest)
        (vdi,) = self.disks()
        assert (golden.vdi_uuid, golden.sr_uuid) == (vdi.uuid, vdi.sr)
        assert vdi.marker[labels.IMAGE] == self.images.digest
        assert self.hypervisor.contents[vdi.uuid].startswith(b"sha256:")

    def assert_left_nothing(self) -> None:
        self.image.refresh_from_db()
        assert not GoldenDisk.objects.filter(digest=self.images.digest).exclude(state="ready")
        whole = [vdi for vdi in self.disks() if labels.IMAGE in vdi.marker]
        assert self.disks() == whole


class RemoveImageCase(ImportImageCase):
    kind = remove_image.kind

    def prepare(self) -> None:
        importing = Operation.objects.create(
            kind=import_image.kind, image=self.image, requested_by="t"
        )
        run_to_end(importing, self.hypervisor)
        Image.objects.filter(pk=self.image.pk).remove()

    def assert_arrived(self) -> None:
        assert not self.disks()
        assert not GoldenDisk.objects.filter(digest=self.images.digest)

    def assert_left_nothing(self) -> None:
        raise AssertionError("it only goes forward")


IMAGE_CASES: tuple[type[Case], ...] = (ImportImageCase, RemoveImageCase)
