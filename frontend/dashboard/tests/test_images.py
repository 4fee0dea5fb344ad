"""The catalogue's page."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from frontend.dashboard.tests.conftest import Place
from hosting.catalog.models import Image
from hosting.catalog.services import import_image, refresh_image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db


def ask(place: Place, name: str = "redis") -> tuple[Image, Operation]:
    return import_image(
        tenant=place.tenant, name=name, reference=f"registry.example/{name}:1", requested_by="t"
    )


def end(operation: Operation, state: State, error: str = "") -> None:
    Operation.objects.filter(pk=operation.pk).update(state=state, error=error, ended_at=Now())


def test_an_image_is_shown_with_where_it_is_from_and_what_it_is_pinned_to(
    place: Place, image: Image
) -> None:
    make_image(None, name="debian")
    make_image(make_tenant(), name="secret")
    html = place.html("images")
    assert image.reference in html
    assert image.current is not None
    assert image.current.digest in html
    assert "everybody’s" in html
    assert "secret" not in html


def test_what_an_import_does_now_is_told(place: Place) -> None:
    _, operation = ask(place)
    Operation.objects.update(step="resolve")
    assert "Asks the registry what the reference names" in place.html("images")
    Operation.objects.filter(pk=operation.pk).update(detail="The registry is busy.")
    assert "The registry is busy." in place.html("images")


def test_why_an_import_failed_is_said_at_the_image(place: Place) -> None:
    _, operation = ask(place)
    end(operation, State.FAILED, "The registry has no such image.")
    html = place.html("images")
    assert "failed" in html
    assert "The registry has no such image." in html
    assert "Try again" in html


def test_why_a_refresh_failed_is_said_beside_that_it_is_ready(place: Place, image: Image) -> None:
    end(refresh_image(image=image, requested_by="t"), State.FAILED, "The digest is another.")
    html = place.html("images")
    assert ">ready<" in html
    assert "Last look failed: The digest is another." in html


def test_without_images_one_is_led_to_importing_one(place: Place) -> None:
    assert "No image yet" in place.html("images")
    assert place.address("image-new") in place.html("images")
    assert place.address("image-new") not in place.html("images", who="viewer")


def test_everybodys_images_may_be_used_and_not_changed(place: Place) -> None:
    image = make_image(None)
    html = place.html("images")
    assert f"?image={image.pk}" in html
    for verb in ("refresh", "remove"):
        assert place.address(f"image-{verb}", uuid=image.pk) not in html
        assert place.post(f"image-{verb}", uuid=image.pk).status_code == 403


def test_a_long_catalogue_comes_in_pages(place: Place) -> None:
    for number in range(51):
        make_image(place.tenant, name=f"image-{number:02}")
    assert "image-50" not in place.html("images")
    assert "image-50" in place.html("images", query={"page": 2})


# -------------------------------------------------------------------------------------------- what is asked


def test_an_import_is_asked_for_once_however_often_the_form_is_sent(place: Place) -> None:
    form = {"key": str(uuid4()), "name": "redis", "reference": "docker.io/library/redis:7"}
    for _ in range(2):
        assert place.post("image-new", form)["Location"] == place.address("images")
    assert Image.objects.get().tenant == place.tenant
    assert "importing" in place.html("images")


WRONG: list[tuple[dict[str, str], int, str, str]] = [
    ({"name": "Redis"}, 400, "name", "Small letters"),
    ({"reference": ""}, 400, "reference", "required"),
    ({"reference": "a b"}, 400, "reference", "Name an image, such as"),
    ({"name": "nginx"}, 409, "name", "That name is taken."),
]


@pytest.mark.parametrize(("wrong", "status", "field", "words"), WRONG)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
    place: Place, image: Image, wrong: dict[str, str], status: int, field: str, words: str
) -> None:
    form = {"name": "redis", "reference": "docker.io/library/redis:7", **wrong}
    answer = place.post("image-new", form)
    assert answer.status_code == status
    assert words in " ".join(answer.context["form"].errors[field])
    kept = "name" if field == "reference" else "reference"
    assert f'value="{form[kept]}"' in answer.content.decode()


def test_a_refresh_is_asked_for(place: Place, image: Image) -> None:
    place.post("image-refresh", uuid=image.pk)
    assert "Looks again" in place.html("images")


def test_who_refreshes_what_is_being_imported_is_told_so(place: Place) -> None:
    image, _ = ask(place)
    answer = place.post("image-refresh", uuid=image.pk)
    assert answer.status_code == 409
    assert "Something else is being done with it" in answer.content.decode()


def test_an_import_can_be_cancelled_while_it_lasts(place: Place) -> None:
    image, operation = ask(place)
    address = place.address("image-cancel", uuid=image.pk)
    assert address in place.html("images")
    place.post("image-cancel", uuid=image.pk)
    html = place.html("images")
    assert "asked to turn back" in html
    assert address not in html
    end(operation, State.CANCELLED, "It was cancelled.")
    place.post("image-cancel", uuid=image.pk)
    assert "There is nothing to cancel any more." in place.html("images")


def test_a_removal_is_asked_back_and_then_done(place: Place, image: Image) -> None:
    assert "Remove nginx?" in place.html("image-remove", uuid=image.pk)
    assert place.post("image-remove", uuid=image.pk)["Location"] == place.address("images")
    html = place.html("images")
    assert "nginx is out of the catalogue." in html
    assert image.reference not in html


def test_what_containers_are_made_from_is_not_removed(place: Place, image: Image) -> None:
    place.add_container(version=image.current)
    assert place.address("image-remove", uuid=image.pk) not in place.html("images")
    answer = place.post("image-remove", uuid=image.pk)
    assert answer.status_code == 409
    assert "Containers are made from it" in answer.content.decode()
    assert Container.objects.get().version.image == image


def test_a_name_that_is_markup_is_shown_as_it_is(place: Place) -> None:
    data: dict[str, Any] = {"name": "x", "reference": "<script>alert(1)</script>"}
    place.post("image-new", data)
    assert "<script>alert" not in place.html("images")
