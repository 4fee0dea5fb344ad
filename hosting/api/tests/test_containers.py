"""Containers and images over HTTP: what comes of a request, beyond its status."""

from __future__ import annotations

from typing import Any

import pytest

from hosting.api.tests.conftest import World
from hosting.catalog.tests.makers import make_image
from hosting.compute.models import Container
from hosting.compute.output import Written, append_lines
from hosting.fleet.tests.makers import make_vm
from hosting.operations.models import Operation
from tenants.models import Tenant


def test_a_container_comes_with_an_operation_to_watch(world: World) -> None:
    body = {
        "name": "web",
        "image": str(world.image.pk),
        "command": ["serve", ""],
        "env": {"A": " b "},
        "vcpus": 2,
        "memory_bytes": 2**29,
        "restart_policy": "never",
    }
    member = world.callers["member"]
    accepted = member.post(world.address("tenant-containers"), body)
    assert accepted.status_code == 202
    operation = member.get(accepted.headers["Location"]).json()
    assert operation == accepted.json()
    assert (operation["kind"], operation["state"]) == ("instance.provision", "active")
    found = member.get(world.address("tenant-container", uuid=operation["container"])).json()
    assert found == found | body | {"image": found["image"]}
    assert found["image"]["uuid"] == str(world.image.pk)
    assert (found["status"], found["operation"]) == ("creating", operation["uuid"])


def test_asking_for_a_container_costs_few_queries(
    world: World, django_assert_max_num_queries: Any
) -> None:
    body = {"name": "web", "image": str(world.image.pk)}
    world.callers["operate token"].get("/api/v1/me")  # its use is noted, to the minute
    # who calls; confine; image, container, instance, quota, operation, journal; let go. And a savepoint and
    # its end for each of: the tenant's transaction, the wish, the operation.
    with django_assert_max_num_queries(9 + 3 * 2):
        world.callers["operate token"].post(world.address("tenant-containers"), body)


def test_looking_at_an_operation_costs_few_queries(
    world: World, django_assert_max_num_queries: Any
) -> None:
    world.callers["view token"].get("/api/v1/me")  # its use is noted, to the minute
    # who calls; confine, look, let go, in a savepoint
    with django_assert_max_num_queries(4 + 2):
        world.callers["view token"].get(world.address("tenant-operation"))


def test_a_container_tells_what_its_vm_does(world: World) -> None:
    make_vm(world.host.pool, instance_uuid=world.instance.pk, power_state="Running")
    told = world.callers["viewer"].get(world.address("tenant-container")).json()
    assert (told["status"], told["desired_state"]) == ("running", "running")


WRONG = [
    ({"name": "Web"}, 400, "invalid_request"),
    ({"name": ""}, 400, "invalid_request"),
    ({"image": "nginx"}, 400, "invalid_request"),
    ({"vcpus": 0}, 400, "invalid_request"),
    ({"memory_bytes": 2**28 + 1}, 400, "invalid_request"),
    ({"env": {"A B": "c"}}, 400, "invalid_request"),
    ({"command": "serve"}, 400, "invalid_request"),
    ({"restart_policy": "often"}, 400, "invalid_request"),
    ({"vcpus": 17}, 403, "quota_exceeded"),
    ({"image": "00000000-0000-0000-0000-000000000000"}, 404, "not_found"),
]


@pytest.mark.parametrize(("wrong", "status", "code"), WRONG)
def test_what_is_wrong_with_a_wish_is_said(
    world: World, wrong: dict[str, Any], status: int, code: str
) -> None:
    body = {"name": "web", "image": str(world.image.pk), **wrong}
    answer = world.callers["member"].post(world.address("tenant-containers"), body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert Container.objects.count() == 1
    assert not Operation.objects.filter(ended_at=None).exists()


@pytest.mark.parametrize("body", [[], "text", None, 7])
def test_a_body_that_is_no_object_is_refused(world: World, body: Any) -> None:
    answer = world.callers["member"].post(world.address("tenant-containers"), body)
    assert answer.status_code == 400


def test_another_tenants_image_is_not_there(world: World) -> None:
    theirs = make_image(Tenant.objects.get(slug="other"))
    answer = world.callers["member"].post(
        world.address("tenant-containers"), {"name": "web", "image": str(theirs.pk)}
    )
    assert answer.status_code == 404
    shown = world.callers["viewer"].get(world.address("tenant-images")).json()["results"]
    assert str(theirs.pk) not in [image["uuid"] for image in shown]


def test_what_is_changed_is_what_was_looked_at(world: World) -> None:
    member, path = world.callers["member"], world.address("tenant-container")
    tag = member.get(path).headers["ETag"]
    assert member.send("PATCH", path, {"vcpus": 2}, If_Match='"99"').status_code == 412
    assert member.send("PATCH", path, {"vcpus": 2}, If_Match=tag).status_code == 202
    late = member.send("DELETE", path, If_Match=tag)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert member.post(path + "/stop", If_Match=tag).status_code == 412
    assert member.get(path).headers["ETag"] != tag
    assert member.send("DELETE", path, If_Match=f'{tag}, "2"').status_code == 202


def test_a_resize_takes_the_quota_at_once(world: World) -> None:
    member, path = world.callers["member"], world.address("tenant-container")
    accepted = member.send("PATCH", path, {"memory_bytes": 2**29})
    assert accepted.json()["kind"] == "instance.resize"
    quota = member.get(world.address("tenant-quota")).json()
    assert quota["memory_bytes"]["used"] == 2**29
    assert member.send("PATCH", path, {}).json()["errors"]


def test_a_second_wish_waits_for_the_first_but_deletion_does_not(world: World) -> None:
    member, path = world.callers["member"], world.address("tenant-container")
    assert member.post(path + "/stop").status_code == 202
    assert member.post(path + "/start").json()["code"] == "operation_in_progress"
    deleted = member.send("DELETE", path)
    assert (deleted.json()["kind"], deleted.json()["state"]) == ("instance.teardown", "queued")
    assert member.get(path).json()["status"] == "deleting"


def test_everybodys_image_is_used_and_not_touched(world: World) -> None:
    image, member = make_image(), world.callers["member"]
    path = world.address("tenant-image", uuid=image.pk)
    assert member.get(path).json()["is_everybodys"] is True
    for answer in (member.send("DELETE", path), member.post(path + "/refresh")):
        assert (answer.status_code, answer.json()["code"]) == (403, "image_is_everybodys")


def test_an_image_that_is_used_stays(world: World) -> None:
    member = world.callers["member"]
    used = world.instance.container.version.image
    answer = member.send("DELETE", world.address("tenant-image", uuid=used.pk))
    assert (answer.status_code, answer.json()["code"]) == (409, "image_in_use")


def test_an_image_is_asked_for_by_reference(world: World) -> None:
    member, path = world.callers["member"], world.address("tenant-images")
    accepted = member.post(path, {"name": "app", "reference": "registry.example/app:1"})
    assert accepted.json()["kind"] == "image.import"
    told = member.get(world.address("tenant-image", uuid=accepted.json()["image"])).json()
    assert (told["name"], told["digest"], told["is_everybodys"]) == ("app", None, False)
    bad = member.post(path, {"name": "bad", "reference": "two words"})
    assert bad.json()["code"] == "invalid_request"


def test_the_newest_lines_that_it_wrote_are_told_oldest_first(world: World) -> None:
    append_lines(
        world.instance.pk,
        [Written("one"), Written("two", "stderr", 1_900_000_000_000), Written("<b>three</b>")],
    )
    address = world.address("tenant-container-output")
    lines = world.callers["viewer"].get(f"{address}?limit=2").json()["lines"]
    assert [line["text"] for line in lines] == ["two", "<b>three</b>"]
    assert lines[0]["cursor"] < lines[1]["cursor"]
    assert lines[0]["at"].endswith("Z")


def test_what_never_wrote_anything_has_no_lines(world: World) -> None:
    told = world.callers["viewer"].get(world.address("tenant-container-output"))
    assert told.json() == {"lines": []}


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many", "", "9" * 400, "١"])
def test_a_number_of_lines_that_cannot_be_is_refused(world: World, limit: str) -> None:
    address = world.address("tenant-container-output")
    refused = world.callers["viewer"].get(f"{address}?limit={limit}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


def test_output_that_cannot_be_read_now_is_said_so(world: World, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    refused = world.callers["viewer"].get(world.address("tenant-container-output"))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
