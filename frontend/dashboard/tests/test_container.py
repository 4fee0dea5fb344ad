"""The page of one container, and what is asked there."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from frontend.dashboard.tests.conftest import Forget, Place
from hosting.compute.models import Container, Instance
from hosting.compute.output import Written, append_lines
from hosting.compute.services import release_container
from hosting.fleet.models import VirtualMachine
from hosting.operations.choices import State, Trouble, What
from hosting.operations.models import Operation, OperationEvent
from tenants.services import set_limits

pytestmark = pytest.mark.django_db
GIB = 2**30


def under_way(container: Container, kind: str = "instance.restart", **given: Any) -> Operation:
    fields = {"requested_by": "system:reconcile", **given}
    return Operation.objects.create(kind=kind, instance=container.instances.get(), **fields)


def ended(container: Container, state: State, **given: Any) -> Operation:
    return under_way(container, state=state, ended_at=Now(), **given)


def offered(html: str) -> set[str]:
    verbs = ("start", "stop", "restart", "resize", "delete", "cancel")
    return {verb for verb in verbs if f'id="do-{verb}"' in html}


# --------------------------------------------------------------------------------------- what is to be seen


def test_wish_and_fact_are_both_shown(place: Place) -> None:
    container = place.add_container(power_state="Halted", restart_policy="always")
    html = place.html("container", uuid=container.pk)
    assert "It ended by itself, although it should run." in html
    assert "<dt>It should be</dt><dd>running</dd>" in html
    assert "<dt>It is</dt><dd>halted</dd>" in html


def test_what_may_end_is_not_complained_of(place: Place) -> None:
    container = place.add_container(power_state="Halted", restart_policy="never")
    assert "its restart policy leaves it so" in place.html("container", uuid=container.pk)


def test_what_goes_on_is_told_in_plain_words_with_why_it_waits(
    place: Place, container: Container
) -> None:
    under_way(container, step="place", detail="No host for 264 MiB: there is no host.")
    html = place.html("container", uuid=container.pk)
    assert "Looks for room" in html
    assert "No host for 264 MiB: there is no host." in html
    assert "It is tried again" not in html


def test_a_step_that_fails_for_now_says_that_it_is_tried_again(
    place: Place, container: Container
) -> None:
    under_way(
        container, step="end", trouble=Trouble.UNREACHABLE, detail="The pool did not answer (x)."
    )
    html = place.html("container", uuid=container.pk)
    assert "The pool did not answer (x). It is tried again by itself." in html


def test_why_the_last_wish_failed_stays_until_the_next(place: Place, container: Container) -> None:
    ended(container, State.FAILED, kind="instance.start", error="The hypervisor refused it.")
    assert "The hypervisor refused it." in place.html("container", uuid=container.pk)
    ended(container, State.SUCCEEDED)
    assert "The hypervisor refused it." not in place.html("container", uuid=container.pk)


def test_its_journal_is_told_newest_first_without_what_operators_alone_may_read(
    place: Place, container: Container
) -> None:
    operation = ended(container, State.SUCCEEDED, kind="instance.provision")
    tell = OperationEvent.objects.create
    tell(operation=operation, what=What.REQUESTED, message="by user:alice")
    tell(operation=operation, what=What.STEP, step="build_disks")
    tell(operation=operation, what=What.RETRYING, message="It is busy.", private="xen-1 Traceback")
    tell(operation=operation, what=What.ENDED, message="succeeded")
    html = place.html("container", uuid=container.pk)
    places = [
        html.index(words)
        for words in ("Done<", "It is busy.", "Makes its disks", "Asked for by alice")
    ]
    assert places == sorted(places)
    assert "Traceback" not in html


def test_an_operator_who_did_something_is_not_named(place: Place, container: Container) -> None:
    operation = ended(container, State.SUCCEEDED)
    OperationEvent.objects.create(
        operation=operation, what=What.REQUESTED, message="by user:olga-the-operator"
    )
    html = place.html("container", uuid=container.pk)
    assert "olga" not in html
    assert "Asked for by somebody outside the tenant" in html


def test_a_long_journal_comes_in_pages(place: Place, container: Container) -> None:
    operation = ended(container, State.SUCCEEDED)
    for number in range(31):
        OperationEvent.objects.create(operation=operation, what=What.WAITING, message=f"n{number}.")
    assert "n0." not in place.html("container", uuid=container.pk)
    older = place.html("container", uuid=container.pk, query={"page": 2})
    assert "n0." in older
    # What asks for itself again asks for the same page.
    assert f'hx-get="{place.address("container", uuid=container.pk)}?page=2"' in older


def test_what_was_asked_for_is_shown_as_it_is(place: Place) -> None:
    container = place.add_container(command=["sh", "-c", "<b>", ""], env={"A": "<i>"})
    html = place.html("container", uuid=container.pk)
    assert "<code>&lt;b&gt;</code>" in html
    assert "A=&lt;i&gt;" in html
    assert place.host.name not in html


def test_what_is_gone_while_one_looks_leads_back_to_the_list(
    place: Place, container: Container
) -> None:
    release_container(container.instances.get())
    address = place.address("container", uuid=container.pk)
    assert place.clients["member"].get(address).status_code == 404
    part = place.clients["member"].get(address, headers={"HX-Request": "true"})
    assert part["HX-Redirect"] == place.address("containers")
    assert "The container is gone" in place.html("containers")


# ------------------------------------------------------------------------------------------------ its output


def test_output_is_shown_and_never_markup(
    place: Place, container: Container, forget: Forget
) -> None:
    instance = container.instances.get()
    forget(instance)
    append_lines(instance.pk, [Written("hello", "stderr"), Written("<script>x</script>")])
    html = place.html("container", uuid=container.pk)
    assert html.index("hello") < html.index("&lt;script&gt;x")
    assert "<script>x" not in html


def test_who_has_all_output_is_sent_nothing(
    place: Place, container: Container, forget: Forget
) -> None:
    instance = container.instances.get()
    forget(instance)
    empty = place.get("container-output", uuid=container.pk, query={"after": ""})
    assert empty.status_code == 204
    append_lines(instance.pk, [Written("hello")])
    first = place.get("container-output", uuid=container.pk, query={"after": ""})
    assert "hello" in first.content.decode()
    after = {"after": first.context["output"]["cursor"]}
    assert place.get("container-output", uuid=container.pk, query=after).status_code == 204


def test_output_that_cannot_be_read_is_said_so_and_the_page_stands(
    place: Place, container: Container, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    html = place.html("container", uuid=container.pk)
    assert "Output cannot be read at the moment." in html
    assert "It runs, as it should." in html
    assert "?after=unknown" in html  # so that it is asked for again when it can be read


# ------------------------------------------------------------------------------------- what makes sense now


@pytest.mark.parametrize(
    ("state", "wish", "verbs"),
    [
        ("Running", "running", {"stop", "restart", "resize", "delete"}),
        ("Halted", "stopped", {"start", "resize", "delete"}),
        ("Halted", "running", {"start", "stop", "resize", "delete"}),
        ("Running", "deleted", set()),
    ],
)
def test_only_what_makes_sense_is_offered(
    place: Place, state: str, wish: str, verbs: set[str]
) -> None:
    container = place.add_container(power_state=state, desired_state=wish)
    assert offered(place.html("container", uuid=container.pk)) == verbs
    assert offered(place.html("container", uuid=container.pk, who="viewer")) == set()


def test_what_never_came_to_life_may_be_tried_again_or_deleted(
    place: Place, container: Container
) -> None:
    Instance.objects.update(published_at=None)
    assert offered(place.html("container", uuid=container.pk)) == {"start", "delete"}


def test_what_the_pool_does_not_tell_of_may_be_stopped_or_deleted(
    place: Place, container: Container
) -> None:
    VirtualMachine.objects.all().delete()
    assert offered(place.html("container", uuid=container.pk)) == {"stop", "delete"}


@pytest.mark.parametrize(
    ("given", "can_be_cancelled"),
    [
        ({"kind": "instance.start"}, True),
        ({"kind": "instance.start", "turned_back": True}, False),
        ({"kind": "instance.start", "cancel_requested_at": Now()}, False),
        ({"kind": "instance.stop"}, False),
        ({"kind": "instance.migrate"}, False),
    ],
)
def test_what_is_under_way_may_be_cancelled_where_that_undoes_something(
    place: Place, container: Container, given: dict[str, Any], can_be_cancelled: bool
) -> None:
    under_way(container, **given)
    expected = {"delete", "cancel"} if can_be_cancelled else {"delete"}
    assert offered(place.html("container", uuid=container.pk)) == expected


# ---------------------------------------------------------------------------------------- asking for it


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_a_button_asks_for_it_once_however_often_it_is_pressed(
    place: Place, container: Container, verb: str
) -> None:
    for _ in range(2):
        answer = place.post(f"container-{verb}", {"key": KEY}, uuid=container.pk)
        assert answer["Location"] == place.address("container", uuid=container.pk)
    operation = Operation.objects.get()
    assert operation.kind == f"instance.{verb}"
    assert operation.requested_by.startswith("user:person")


KEY = str(uuid4())


def test_one_page_may_ask_for_several_things_in_turn(place: Place, container: Container) -> None:
    place.post("container-stop", {"key": KEY}, uuid=container.pk)
    Operation.objects.update(state=State.SUCCEEDED, ended_at=Now())
    assert place.post("container-start", {"key": KEY}, uuid=container.pk).status_code == 302
    assert Operation.objects.count() == 2


def test_who_was_too_late_is_told_so_on_the_page(place: Place, container: Container) -> None:
    under_way(container)
    answer = place.post("container-stop", uuid=container.pk)
    html = answer.content.decode()
    assert answer.status_code == 409
    assert "Something else is being done with it" in html
    assert 'role="alert"' in html
    # The page goes on to look at the container, not at what was asked for.
    assert f'hx-get="{place.address("container", uuid=container.pk)}"' in html


def test_what_never_ran_cannot_be_restarted(place: Place, container: Container) -> None:
    Instance.objects.update(published_at=None)
    answer = place.post("container-restart", uuid=container.pk)
    assert answer.status_code == 409
    assert "It has never run yet: start it." in answer.content.decode()


def test_what_is_cancelled_is_asked_to_turn_back(place: Place, container: Container) -> None:
    operation = under_way(container, kind="instance.start")
    place.post("container-cancel", uuid=container.pk)
    operation.refresh_from_db()
    assert operation.cancel_requested_at is not None
    assert "asked to turn back" in place.html("container", uuid=container.pk)


def test_what_has_ended_meanwhile_cannot_be_cancelled(place: Place, container: Container) -> None:
    place.post("container-cancel", uuid=container.pk)
    html = place.html("container", uuid=container.pk)
    assert "There is nothing to cancel any more." in html


def test_a_resize_is_asked_for(place: Place, container: Container) -> None:
    answer = place.post(
        "container-resize", {"vcpus": "3", "memory_bytes": "1 GiB"}, uuid=container.pk
    )
    assert answer["Location"] == place.address("container", uuid=container.pk)
    container.refresh_from_db()
    assert (container.vcpus, container.memory_bytes) == (3, GIB)


def test_a_resize_begins_at_what_it_is(place: Place, container: Container) -> None:
    html = place.html("container-resize", uuid=container.pk)
    assert 'value="256 MiB"' in html
    # What it has already counts as left to it.
    assert "The quota leaves 16 GiB." in html


def test_a_resize_beyond_the_quota_is_said_at_its_field(place: Place, container: Container) -> None:
    set_limits(place.tenant, {"vcpus": 2})
    answer = place.post(
        "container-resize", {"vcpus": "5", "memory_bytes": "256"}, uuid=container.pk
    )
    assert answer.status_code == 403
    assert "vcpus" in answer.context["form"].errors
    container.refresh_from_db()
    assert container.vcpus == 1


def test_a_resize_that_came_too_late_keeps_what_was_typed(
    place: Place, container: Container
) -> None:
    under_way(container)
    answer = place.post(
        "container-resize", {"vcpus": "2", "memory_bytes": "777"}, uuid=container.pk
    )
    assert answer.status_code == 409
    assert "Something else is being done with it" in answer.content.decode()
    assert 'value="777"' in answer.content.decode()


def test_a_deletion_is_asked_back_and_then_done(place: Place, container: Container) -> None:
    html = place.html("container-delete", uuid=container.pk)
    assert "That cannot be taken back" in html
    assert not Operation.objects.exists()
    assert place.post("container-delete", uuid=container.pk)["Location"] == "/t/acme/"
    assert Operation.objects.get().kind == "instance.teardown"
    listed = place.html("containers")
    assert "web is to be deleted" in listed
    assert "deleting" in listed


def test_a_deletion_comes_before_whatever_is_under_way(place: Place, container: Container) -> None:
    under_way(container, kind="instance.start")
    assert "that is ended first" in place.html("container-delete", uuid=container.pk)
    assert place.post("container-delete", uuid=container.pk).status_code == 302
    assert Operation.objects.filter(kind="instance.teardown", state=State.QUEUED).exists()
