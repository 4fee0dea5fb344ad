"""Images that come, that cannot come, and that go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hosting import labels
from hosting.catalog.models import GoldenDisk, Image, ImageVersion
from hosting.catalog.tests.makers import make_image, make_version
from hosting.fleet.models import StorageRepository
from hosting.operations.choices import State
from hosting.operations.models import Operation
from worker import engine
from worker.hypervisor.port import VdiSpec
from worker.images.errors import (
    DigestMismatch,
    ImageError,
    ImageUnknown,
    PullRefused,
    RegistryBusy,
    RegistryUnreachable,
)
from worker.tests.image_cases import BUILDER, ImportImageCase, RemoveImageCase
from worker.tests.support import let_time_pass, run_to_end, to

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(db: None) -> ImportImageCase:
    return ImportImageCase()


def go_on(case: ImportImageCase) -> Operation:
    let_time_pass()
    engine.advance(case.operation.uuid, to(case.hypervisor))
    case.operation.refresh_from_db()
    return case.operation


@pytest.mark.parametrize("error", [ImageUnknown(), PullRefused()])
def test_what_the_registry_refuses_fails_with_its_code(
    case: ImportImageCase, error: ImageError
) -> None:
    case.images.fails_with = [error]
    done = run_to_end(case.operation, case.hypervisor)
    assert (done.state, done.error_code, done.error) == (State.FAILED, error.code, error.public)
    assert case.hypervisor.starts == []
    case.assert_left_nothing()


def test_bytes_of_another_digest_leave_nothing(case: ImportImageCase) -> None:
    go_on_to_fill(case)
    case.images.fails_with = [DigestMismatch()]
    done = run_to_end(case.operation, case.hypervisor)
    assert (done.state, done.error_code) == (State.FAILED, "digest_mismatch")
    assert not GoldenDisk.objects.filter(digest=case.images.digest)
    assert not case.disks()
    assert Image.objects.get(pk=case.image.pk).current is None


def go_on_to_fill(case: ImportImageCase) -> None:
    for _ in range(3):
        claimed = engine.claim(case.operation.uuid)
        assert claimed is not None
        engine.run_step(claimed, to(case.hypervisor), keep=False)
    case.operation.refresh_from_db()
    assert case.operation.step == "fill"


@pytest.mark.parametrize(
    "error", [RegistryUnreachable(), RegistryBusy(retry_after=timedelta(minutes=3))]
)
def test_what_may_pass_is_waited_for(case: ImportImageCase, error: ImageError) -> None:
    case.images.fails_with = [error]
    operation = go_on(case)
    assert (operation.step, operation.detail) == ("resolve", error.public)
    assert run_to_end(operation, case.hypervisor).state == State.SUCCEEDED


def test_a_reference_that_is_none_fails(case: ImportImageCase) -> None:
    Image.objects.filter(pk=case.image.pk).update(reference="web:/")
    done = run_to_end(case.operation, case.hypervisor)
    assert (done.state, done.error_code) == (State.FAILED, "invalid_reference")


def test_without_shared_storage_it_waits(case: ImportImageCase) -> None:
    StorageRepository.objects.update(shared=False)
    assert go_on(case).detail == "No pool has shared storage."


def test_a_disk_that_was_filled_partly_is_made_anew(case: ImportImageCase) -> None:
    name = labels.image_name(case.images.digest, BUILDER)
    filling = {labels.FILLING: case.images.digest}
    partly = case.hypervisor.ensure_vdi(VdiSpec(name, filling, case.world.sr, 2**20))
    run_to_end(case.operation, case.hypervisor)
    case.assert_arrived()
    assert partly.uuid not in case.hypervisor.vdis_by_uuid


def test_what_is_there_already_is_not_built_again(case: ImportImageCase) -> None:
    run_to_end(case.operation, case.hypervisor)
    again = Operation.objects.create(kind="image.import", image=case.image, requested_by="t")
    run_to_end(again, case.hypervisor)
    assert case.images.built == 1


def test_a_name_that_means_other_bytes_now_gets_another_version(case: ImportImageCase) -> None:
    run_to_end(case.operation, case.hypervisor)
    case.images.digest = "sha256:" + "e" * 64
    again = Operation.objects.create(kind="image.import", image=case.image, requested_by="t")
    run_to_end(again, case.hypervisor)
    case.image.refresh_from_db()
    assert case.image.current is not None
    assert case.image.current.digest == case.images.digest
    assert ImageVersion.objects.filter(image=case.image).count() == 2


def test_a_disk_that_another_image_needs_stays() -> None:
    case = RemoveImageCase()
    make_version(make_image(imported=False), digest=case.images.digest)
    run_to_end(case.operation, case.hypervisor)
    assert len(case.disks()) == 1
    assert GoldenDisk.objects.all().ready().filter(digest=case.images.digest).exists()


def test_an_image_is_built_within_its_tenants_limits(case: ImportImageCase) -> None:
    run_to_end(case.operation, case.hypervisor)
    assert set(case.images.asked_for) == {case.world.tenant.slug}
