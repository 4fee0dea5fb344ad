from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from hosting.catalog.choices import DiskState, ImageState
from hosting.catalog.models import GoldenDisk, Image
from hosting.catalog.selectors import (
    find_image,
    golden_disks_of,
    images,
    images_of,
    images_with_news,
    observe_image,
)
from hosting.catalog.services import import_image, refresh_image, remove_image
from hosting.catalog.tests.makers import make_golden_disk, make_image, make_version
from hosting.compute.tests.makers import make_container
from hosting.errors import Conflict, InvalidRequest, NotFound
from hosting.fleet.tests.makers import make_pool
from hosting.operations import bell
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.models import Tenant
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db

NGINX = "docker.io/library/nginx:1.27"


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    heard: list[UUID] = []
    monkeypatch.setattr(bell, "_ring", lambda asked: heard.extend(uuid for uuid, _ in asked))
    return heard


@pytest.fixture
def tenant(db: None) -> Tenant:
    return make_tenant()


def ask(tenant: Tenant | None, name: str = "web", **more: str) -> tuple[Image, Operation]:
    return import_image(
        tenant=tenant, name=name, requested_by="user:alice", **{"reference": NGINX, **more}
    )


def test_an_import_is_an_entry_and_an_operation(tenant: Tenant) -> None:
    image, operation = ask(tenant)
    assert (operation.kind, operation.subject, image.current) == ("image.import", image, None)


def test_a_key_used_again_answers_with_what_it_made(tenant: Tenant) -> None:
    assert ask(tenant, idempotency_key="k") == ask(tenant, idempotency_key="k")
    assert Image.objects.count() == 1


def test_a_key_used_for_something_else_is_refused(tenant: Tenant) -> None:
    ask(tenant, idempotency_key="k")
    with pytest.raises(Conflict) as refused:
        ask(tenant, name="other", idempotency_key="k")
    assert refused.value.code == "idempotency_key_reused"


def test_a_name_is_taken_once_per_tenant(tenant: Tenant) -> None:
    ask(tenant)
    ask(make_tenant())
    with pytest.raises(Conflict) as refused:
        ask(tenant)
    assert refused.value.code == "name_taken"


def test_an_operators_image_has_its_name_alone_too() -> None:
    ask(None)
    with pytest.raises(Conflict):
        ask(None)


@pytest.mark.parametrize("name", ["", "Web", "-web", "web-", "a" * 41])
def test_a_name_is_a_label(tenant: Tenant, name: str) -> None:
    with pytest.raises(InvalidRequest):
        ask(tenant, name)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_image(tenant, name=name[:40].rstrip("a") or "-")


@pytest.mark.parametrize("reference", ["", "two words", "tab\there", "x" * 501])
def test_a_reference_is_one_word(tenant: Tenant, reference: str) -> None:
    with pytest.raises(InvalidRequest):
        ask(tenant, reference=reference)


def test_the_database_refuses_an_image_from_nowhere() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_image(reference="")


def test_a_tenant_sees_its_own_images_and_everybodys(tenant: Tenant) -> None:
    own, all_of_us, other = make_image(tenant), make_image(), make_image(make_tenant())
    assert set(images_of(tenant)) == {own, all_of_us}
    assert set(images()) == {own, all_of_us, other}
    with pytest.raises(NotFound):
        find_image(tenant=tenant, uuid=other.pk)


def test_a_removed_image_is_out_of_sight_and_its_name_free(tenant: Tenant) -> None:
    image = make_image(tenant, name="web")
    assert remove_image(image=image, requested_by="t").kind == "image.remove"
    with pytest.raises(NotFound):
        find_image(tenant=tenant, uuid=image.pk)
    ask(tenant, "web")


def test_an_image_that_containers_are_made_from_stays(tenant: Tenant) -> None:
    image = make_image(tenant)
    make_container(tenant, version=image.current)
    with pytest.raises(Conflict) as refused:
        remove_image(image=image, requested_by="t")
    assert refused.value.code == "image_in_use"


def test_removing_an_image_that_is_being_imported_comes_after_that(tenant: Tenant) -> None:
    image, importing = ask(tenant)
    removing = remove_image(image=image, requested_by="t")
    assert removing.state == State.QUEUED
    importing.refresh_from_db()
    assert importing.superseded_by == removing


def test_an_import_at_a_time(tenant: Tenant) -> None:
    image = make_image(tenant)
    refresh_image(image=image, requested_by="t")
    with pytest.raises(Conflict) as refused:
        refresh_image(image=image, requested_by="t")
    assert refused.value.code == "operation_in_progress"


def test_a_digest_is_pinned_once_per_image_and_is_one(tenant: Tenant) -> None:
    image = make_image(tenant, imported=False)
    version = make_version(image)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_version(image, digest=version.digest)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_version(image, digest="latest")


def test_a_disk_is_there_once_per_digest_builder_and_sr() -> None:
    pool, version = make_pool(), make_version(make_image())
    disk = make_golden_disk(version, pool)
    make_golden_disk(version, pool)  # on another SR
    make_golden_disk(version, pool, sr_uuid=disk.sr_uuid, builder_version="2")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_golden_disk(version, pool, sr_uuid=disk.sr_uuid)
    assert golden_disks_of(version.digest).count() == 3


@pytest.mark.parametrize(
    "wrong", [{"vdi_uuid": None}, {"state": "burnt"}, {"digest": "sha256:short"}]
)
def test_the_database_refuses_a_disk_that_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_golden_disk(make_version(make_image()), make_pool(), **wrong)


def test_only_ready_disks_are_ready() -> None:
    version, pool = make_version(make_image()), make_pool()
    ready = make_golden_disk(version, pool)
    make_golden_disk(version, pool, state=DiskState.IMPORTING, vdi_uuid=None)
    assert list(GoldenDisk.objects.all().ready()) == [ready]


def test_a_disk_is_needed_while_an_image_or_a_container_is_made_of_it() -> None:
    container = make_container()
    image = container.version.image
    disk = make_golden_disk(container.version, make_pool())
    assert not GoldenDisk.objects.all().needless()
    Image.objects.filter(pk=image.pk).remove()
    assert not GoldenDisk.objects.all().needless()
    type(container).objects.filter(pk=container.pk).delete_at_last()
    assert list(GoldenDisk.objects.all().needless()) == [disk]


# ------------------------------------------------------------------------------------ as people look at it


def end(operation: Operation, state: State, error: str = "") -> None:
    Operation.objects.filter(pk=operation.pk).update(state=state, error=error, ended_at=Now())


def test_an_image_is_importing_until_it_is_ready(tenant: Tenant) -> None:
    image, operation = ask(tenant)
    assert observe_image(image).state == ImageState.IMPORTING
    end(operation, State.SUCCEEDED)
    image.current = make_version(image)
    assert observe_image(image).state == ImageState.READY


def test_a_failed_import_says_why(tenant: Tenant) -> None:
    image, operation = ask(tenant)
    end(operation, State.FAILED, "The registry has no such image.")
    seen = observe_image(image)
    assert (seen.state, seen.trouble) == (ImageState.FAILED, "The registry has no such image.")


def test_a_refresh_that_fails_leaves_the_image_ready_and_says_why(tenant: Tenant) -> None:
    image = make_image(tenant)
    end(refresh_image(image=image, requested_by="user:alice"), State.FAILED, "No.")
    seen = observe_image(image)
    assert (seen.state, seen.trouble, seen.is_busy) == (ImageState.READY, "No.", False)


def test_an_image_of_which_nothing_is_shown_but_itself_is_on_its_way(tenant: Tenant) -> None:
    assert observe_image(make_image(None, imported=False)).state == ImageState.IMPORTING


def test_a_list_with_news_costs_two_queries_however_long(
    tenant: Tenant, django_assert_num_queries: Any
) -> None:
    used = make_image(tenant)
    make_container(tenant, version=used.current)
    make_container(make_tenant(), version=used.current)
    for number in range(3):
        ask(tenant, f"new{number}")
    end(Operation.objects.filter(image__name="new2").get(), State.FAILED, "first")
    refresh_image(image=Image.objects.get(name="new2"), requested_by="user:alice")
    with django_assert_num_queries(2):
        seen = [observe_image(image) for image in images_with_news(tenant)]
        states = {one.image.name: one.state for one in seen}
    assert states.pop(used.name) == ImageState.READY
    assert set(states.values()) == {ImageState.IMPORTING}
    assert {one.image.container_count for one in seen} == {0, 1}  # type: ignore[attr-defined]
