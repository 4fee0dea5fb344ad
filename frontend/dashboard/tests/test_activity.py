"""What was done, by whom, and what the quota is spent on."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models.functions import Now

from frontend.dashboard.tests.conftest import Place
from hosting.catalog.services import import_image
from hosting.compute.models import Container
from hosting.compute.services import release_container
from hosting.compute.tests.makers import make_instance
from hosting.operations.choices import State
from hosting.operations.models import Operation
from tenants.services import set_limits

pytestmark = pytest.mark.django_db


def make(container: Container, kind: str = "instance.stop", **given: Any) -> Operation:
    fields = {"requested_by": "user:alice", **given}
    return Operation.objects.create(kind=kind, instance=container.instances.get(), **fields)


def test_what_was_done_is_told_with_a_way_to_what_it_was_about(
    place: Place, container: Container
) -> None:
    make(container, state=State.FAILED, ended_at=Now(), error="It would not.")
    html = place.html("activity")
    assert "<strong>Stop</strong>" in html
    assert place.address("container", uuid=container.pk) in html
    assert "alice" in html
    assert "failed" in html
    assert "It would not." in html


def test_what_goes_on_is_told_with_where_it_is(place: Place, container: Container) -> None:
    make(container, step="end")
    html = place.html("activity")
    assert "under way" in html
    assert "Waits until it has ended" in html


def test_imports_are_told_too(place: Place) -> None:
    import_image(tenant=place.tenant, name="redis", reference="x/redis", requested_by="token:bh_ab")
    html = place.html("activity")
    assert "<strong>Import image</strong>" in html
    assert "the API token bh_ab…" in html


def test_what_is_gone_is_named_and_leads_nowhere(place: Place, container: Container) -> None:
    make(container, state=State.SUCCEEDED, ended_at=Now())
    release_container(container.instances.get())
    html = place.html("activity")
    assert "web <span" in html
    assert place.address("container", uuid=container.pk) not in html


def test_what_others_do_is_not_told(place: Place, container: Container) -> None:
    theirs = make_instance()
    Operation.objects.create(kind="instance.stop", instance=theirs, requested_by="user:olga")
    assert "Nothing has been done here yet." in place.html("activity")
    make(container, requested_by="user:olga")
    assert "olga" not in place.html("activity")


def test_a_kind_that_has_no_word_yet_is_maintenance(place: Place, container: Container) -> None:
    make(container, kind="instance.novel")
    assert "<strong>Maintenance</strong>" in place.html("activity")


def test_a_long_list_comes_in_pages(place: Place, container: Container) -> None:
    for _ in range(51):
        make(container, state=State.SUCCEEDED, ended_at=Now())
    assert "1–50 of 51" in place.html("activity")
    assert "51–51 of 51" in place.html("activity", query={"page": 2})


def test_the_quota_shows_used_limit_and_what_takes_it(place: Place) -> None:
    set_limits(place.tenant, {"vcpus": 4})
    small = place.add_container(name="small")
    big = place.add_container(name="big")
    Container.objects.filter(pk=big.pk).update(memory_bytes=2**30)
    html = place.html("quota")
    assert "50 %" in html  # of the vCPUs
    assert html.index("<strong>big</strong>") < html.index("<strong>small</strong>")
    assert place.address("container", uuid=small.pk) in html


def test_a_tenant_without_containers_takes_nothing(place: Place) -> None:
    assert "there is no container" in place.html("quota")
