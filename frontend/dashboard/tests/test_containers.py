"""The list of containers, and making one."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from frontend.dashboard.tests.conftest import Place
from hosting.catalog.models import Image
from hosting.catalog.services import import_image
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container, Instance
from hosting.compute.tests.makers import make_container
from hosting.networks.tests.makers import make_network
from hosting.operations.models import Operation
from tenants.services import set_limits
from tenants.tests.makers import make_tenant

pytestmark = pytest.mark.django_db
GIB = 2**30


# ------------------------------------------------------------------------------------------------- the list


def test_a_container_is_shown_with_what_its_tenant_may_know(place: Place) -> None:
    container = place.add_container(name="web", vcpus=2)
    network = make_network(container.tenant)
    Instance.objects.filter(container=container).update(
        network=network, ip="10.1.2.3", mac="02:00:00:00:00:01", started_at=Now()
    )
    html = place.html("containers")
    for told in ("web", "running", "2 vCPUs", "256 MiB", "10.1.2.3", container.version.image.name):
        assert told in html
    assert place.host.name not in html
    assert place.host.pool.name not in html


def test_another_tenants_containers_are_not_there(place: Place) -> None:
    make_container(make_tenant(), name="secret")
    assert "secret" not in place.html("containers")


def test_the_quota_is_in_brief_at_the_top(place: Place) -> None:
    place.add_container()
    html = place.html("containers")
    assert "1 <small>of 200</small>" in html
    assert "256 MiB <small>of 16 GiB</small>" in html


def test_without_an_image_the_empty_list_leads_to_importing_one(place: Place) -> None:
    html = place.html("containers")
    assert "No container yet" in html
    assert place.address("image-new") in html
    assert place.address("container-new") not in html


def test_with_an_image_the_empty_list_leads_to_a_first_container(place: Place) -> None:
    make_image(None)
    assert place.address("container-new") in place.html("containers")


def test_a_viewer_is_led_to_nothing_they_may_not_do(place: Place, container: Container) -> None:
    assert place.address("container-new") not in place.html("containers", who="viewer")


def test_a_list_is_narrowed_by_name_and_status(place: Place) -> None:
    place.add_container(name="web-front")
    place.add_container(name="web-back", power_state="Halted")
    place.add_container(name="db")
    for query, there, not_there in (
        ({"q": "WEB"}, ["web-front", "web-back"], ["db"]),
        ({"status": "running"}, ["web-front", "db"], ["web-back"]),
        ({"status": "exited", "q": "web"}, ["web-back"], ["web-front", "db"]),
    ):
        html = place.html("containers", query=query)
        for name in there:
            assert f"<strong>{name}</strong>" in html, query
        for name in not_there:
            assert f"<strong>{name}</strong>" not in html, query


def test_what_matches_nothing_says_so(place: Place, container: Container) -> None:
    assert "No container matches" in place.html("containers", query={"q": "nothing"})


@pytest.mark.parametrize("query", [{"status": "flying"}, {"q": "\0"}, {"page": "x"}])
def test_nonsense_in_the_address_narrows_nothing(
    place: Place, container: Container, query: dict[str, str]
) -> None:
    assert "<strong>web</strong>" in place.html("containers", query=query)


def test_a_long_list_comes_in_pages_that_keep_the_filter(place: Place) -> None:
    for number in range(51):
        place.add_container(name=f"web-{number:02}")
    place.add_container(name="db")
    first = place.html("containers", query={"q": "web"})
    assert "1–50 of 51" in first
    assert "?q=web&amp;page=2" in first
    assert "web-50" not in first
    assert "web-50" in place.html("containers", query={"q": "web", "page": 2})


# ------------------------------------------------------------------------------------------------ a new one


def form(of: Image, **given: Any) -> dict[str, Any]:
    return {
        "key": str(uuid4()),
        "name": "shop",
        "image": str(of.pk),
        "command": "nginx -g 'daemon off;' \"\"",
        "env": "A=1\r\n\r\nB = x=y ",
        "vcpus": "2",
        "memory_bytes": "1.5 GiB",
        "disk_bytes": "2048",
        "restart_policy": "on-failure",
        **given,
    }


def test_what_is_typed_becomes_a_container(place: Place, image: Image) -> None:
    answer = place.post("container-new", form(image))
    made = Container.objects.get(name="shop")
    assert answer["Location"] == place.address("container", uuid=made.pk)
    assert made.tenant == place.tenant
    assert made.command == ["nginx", "-g", "daemon off;", ""]
    assert made.env == {"A": "1", "B": " x=y "}
    assert (made.vcpus, made.memory_bytes, made.disk_bytes) == (2, 3 * GIB // 2, 2 * GIB)
    assert made.restart_policy == "on-failure"
    operation = Operation.objects.get(instance__container=made)
    assert operation.requested_by.startswith("user:")


def test_sent_twice_it_makes_one(place: Place, image: Image) -> None:
    sent = form(image)
    answers = [place.post("container-new", sent) for _ in range(2)]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert Container.objects.count() == 1


def test_a_form_that_was_sent_before_and_is_changed_says_so_and_can_be_sent_again(
    place: Place, image: Image
) -> None:
    sent = form(image)
    place.post("container-new", sent)
    answer = place.post("container-new", {**sent, "name": "other"})
    assert answer.status_code == 409
    assert "was sent before" in answer.content.decode()
    again = answer.context["form"]["key"].value()
    assert again != sent["key"]
    assert place.post("container-new", {**sent, "name": "other", "key": again}).status_code == 302


WRONG = [
    ({"name": "Shop"}, "name", "Small letters"),
    ({"name": ""}, "name", "required"),
    ({"image": ""}, "image", "Choose an image"),
    ({"image": str(uuid4())}, "image", "Choose an image"),
    ({"command": "sh -c 'x"}, "command", "quotes come in pairs"),
    ({"command": "a\0b"}, "command", "Null characters"),
    ({"env": "A=1\nB"}, "env", "Line 2: write KEY=VALUE"),
    ({"env": "A B=1"}, "env", "Line 1: a name is made of"),
    ({"env": "A=1\nA=2"}, "env", "Line 2: A is there already"),
    ({"env": "A=" + "x" * 300_000}, "command", "bytes together at most"),
    ({"vcpus": "0"}, "vcpus", "From 1 to 32"),
    ({"vcpus": "many"}, "vcpus", "whole number"),
    ({"memory_bytes": "lots"}, "memory_bytes", "such as 512 MiB"),
    ({"memory_bytes": "1"}, "memory_bytes", "From 64 MiB to 1024 GiB"),
    ({"memory_bytes": "256.5"}, "memory_bytes", "Whole MiB"),
    ({"disk_bytes": "3 TiB"}, "disk_bytes", "From 64 MiB to 2040 GiB"),
    ({"restart_policy": "often"}, "restart_policy", "valid choice"),
]


@pytest.mark.parametrize(("wrong", "field", "words"), WRONG)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
    place: Place, image: Image, wrong: dict[str, str], field: str, words: str
) -> None:
    answer = place.post("container-new", form(image, **wrong))
    html = answer.content.decode()
    assert answer.status_code == 400
    assert words in " ".join(answer.context["form"].errors[field])
    assert f'id="field-{field}_error"' in html
    assert "on-failure" in html
    if "name" not in wrong:
        assert 'value="shop"' in html
    assert not Container.objects.exists()


def test_a_name_that_is_taken_is_said_at_the_name(place: Place, image: Image) -> None:
    place.add_container(name="shop")
    answer = place.post("container-new", form(image))
    assert answer.status_code == 409
    assert answer.context["form"].errors["name"] == ["That name is taken."]


def test_what_the_quota_does_not_leave_is_said_where_it_is_short(
    place: Place, image: Image
) -> None:
    set_limits(place.tenant, {"vcpus": 1, "memory_bytes": GIB})
    answer = place.post("container-new", form(image))
    assert answer.status_code == 403
    assert answer.context["form"].errors == {
        "vcpus": ["The quota leaves 1 of vCPUs; this takes 2."],
        "memory_bytes": ["The quota leaves 1 GiB of memory; this takes 1.5 GiB."],
    }


def test_a_tenant_full_of_containers_is_told_so(place: Place, image: Image) -> None:
    set_limits(place.tenant, {"containers": 0})
    answer = place.post("container-new", form(image))
    assert "The quota leaves no further container." in answer.content.decode()


def test_an_image_that_is_not_ready_is_not_offered(place: Place, image: Image) -> None:
    unready, _ = import_image(
        tenant=place.tenant, name="new", reference="registry.example/new:1", requested_by="t"
    )
    assert str(unready.pk) not in place.html("container-new")
    assert place.post("container-new", form(unready)).status_code == 400


def test_another_tenants_image_is_not_offered(place: Place, image: Image) -> None:
    theirs = make_image(make_tenant())
    assert str(theirs.pk) not in place.html("container-new")
    assert place.post("container-new", form(theirs)).status_code == 400


def test_without_an_image_the_form_leads_to_importing_one(place: Place) -> None:
    html = place.html("container-new")
    assert "No image to make it from" in html
    assert place.address("image-new") in html


def test_the_image_one_came_from_is_chosen_already(place: Place, image: Image) -> None:
    make_image(place.tenant)
    html = place.html("container-new", query={"image": str(image.pk)})
    assert f'<option value="{image.pk}" selected>' in html


def test_what_the_quota_leaves_is_said_while_one_chooses(place: Place, image: Image) -> None:
    set_limits(place.tenant, {"vcpus": 7})
    assert "The quota leaves 7." in place.html("container-new")
