"""Operations: found, read, called off, and made to look again."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from frontend.console.tests.worlds import Fleet
from hosting.operations.choices import State
from hosting.operations.models import Operation

pytestmark = pytest.mark.django_db


def listed(client: Client, **query: str) -> set[Any]:
    response = client.get(reverse("console:operations"), query)
    assert response.status_code == 200
    return {operation.pk for operation in response.context["operations"]}


def everything() -> set[Any]:
    return set(Operation.objects.values_list("pk", flat=True))


def page_of(client: Client, operation: Operation) -> str:
    response = client.get(reverse("console:operation", args=[operation.pk]))
    assert response.status_code == 200
    return response.content.decode()


def press(client: Client, verb: str, operation: Operation) -> str:
    response = client.post(reverse(f"console:operation-{verb}", args=[operation.pk]))
    assert response["Location"] == reverse("console:operation", args=[operation.pk])
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def test_operations_are_found_by_state_kind_and_trouble(fleet: Fleet, operator: Client) -> None:
    of_kind = set(Operation.objects.filter(kind="instance.migrate").values_list("pk", flat=True))
    done = set(Operation.objects.filter(state=State.SUCCEEDED).values_list("pk", flat=True))
    assert listed(operator) == everything()
    assert listed(operator, kind="instance.migrate") == of_kind
    assert listed(operator, state="succeeded") == done
    assert listed(operator, state="under-way") == everything() - done
    assert listed(operator, trouble="any") == listed(operator, trouble="bug") == {fleet.broken.pk}
    assert listed(operator, trouble="busy") == set()


def test_operations_are_found_by_whose_and_what_they_are_about(
    fleet: Fleet, operator: Client
) -> None:
    instance = fleet.instances[0]
    assert listed(operator, q="XEN-2") == {fleet.drain.pk}
    assert listed(operator, q=str(fleet.draining.pk)) == {fleet.drain.pk}
    assert listed(operator, q=instance.container.name) == {fleet.broken.pk}
    assert listed(operator, q=str(instance.container_id)) == {fleet.broken.pk}
    assert listed(operator, q="alice") == {fleet.broken.pk}
    assert len(listed(operator, q="acme")) == 4


@pytest.mark.parametrize(
    "query", [{"state": "x"}, {"kind": "x"}, {"trouble": "x"}, {"page": "x"}, {"q": "\0"}]
)
def test_nonsense_in_the_address_narrows_nothing(
    fleet: Fleet, operator: Client, query: dict[str, str]
) -> None:
    assert listed(operator, **query) == everything()


def test_without_a_match_the_list_says_so(fleet: Fleet, operator: Client) -> None:
    html = operator.get(reverse("console:operations"), {"q": "nothing"}).content.decode()
    assert "No operation matches." in html


def test_the_list_comes_in_pages_at_a_price_that_does_not_grow(
    fleet: Fleet, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    Operation.objects.bulk_create(
        Operation(
            kind="instance.stop",
            instance=fleet.instances[number % 5],
            requested_by="t",
            state=State.SUCCEEDED,
            ended_at=Now(),
        )
        for number in range(60)
    )
    with django_assert_max_num_queries(6):
        assert len(listed(operator)) == 50
    assert len(listed(operator, page="2")) == len(everything()) - 50


def test_its_page_tells_what_only_operators_may_know(fleet: Fleet, operator: Client) -> None:
    html = page_of(operator, fleet.broken)
    assert "KeyError: grace" in html
    assert "user:alice" in html
    assert "fault of ours" in html


def test_its_page_leads_to_what_it_began_and_what_began_it(fleet: Fleet, operator: Client) -> None:
    child = Operation.objects.filter(parent=fleet.drain).first()
    assert child is not None
    assert reverse("console:operation", args=[child.pk]) in page_of(operator, fleet.drain)
    assert reverse("console:operation", args=[fleet.drain.pk]) in page_of(operator, child)


def test_facts_written_by_others_are_never_markup(fleet: Fleet, operator: Client) -> None:
    Operation.objects.filter(pk=fleet.drain.pk).update(facts={"x": "<script>x</script>"})
    assert "<script>x" not in page_of(operator, fleet.drain)


def test_it_is_called_off_once(fleet: Fleet, operator: Client) -> None:
    for _ in range(2):
        assert "turns back" in press(operator, "cancel", fleet.drain)
    assert fleet.drain.events.filter(what="cancel_requested").count() == 1
    assert 'id="cancel"' not in page_of(operator, fleet.drain)


def test_it_is_made_to_look_again_now(fleet: Fleet, operator: Client) -> None:
    later = "2100-01-01T00:00:00Z"
    Operation.objects.filter(pk=fleet.broken.pk).update(run_at=later)
    assert "tries its step again" in press(operator, "wake", fleet.broken)
    assert not Operation.objects.filter(pk=fleet.broken.pk, run_at=later).exists()


@pytest.mark.parametrize("verb", ["cancel", "wake"])
def test_what_has_ended_is_left_alone(fleet: Fleet, operator: Client, verb: str) -> None:
    ended = Operation.objects.get(state=State.SUCCEEDED)
    assert press(operator, verb, ended) == "It has ended."
    html = page_of(operator, ended)
    assert 'id="cancel"' not in html
    assert 'id="wake"' not in html
