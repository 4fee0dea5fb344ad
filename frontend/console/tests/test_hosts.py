"""The page of a host: what goes on there, and each button by the state it stands in."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from frontend.console.tests.worlds import Fleet
from hosting.alarms.models import AuditEntry
from hosting.compute.tests.makers import make_instance
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.operations.models import Operation
from tenants.services import set_limits

pytestmark = pytest.mark.django_db

BUTTONS = {
    "cordon": "Cordon",
    "uncordon": "Uncordon",
    "drain": "Drain …",
    "cancel-drain": "Call the draining off",
    "return": "Return to service",
    "repaired": "It is repaired",
    "confirm-off": "Vouch that it is off …",
}


def html_of(client: Client, host: Host) -> str:
    response = client.get(reverse("console:host", args=[host.pool_id, host.pk]))
    assert response.status_code == 200
    return response.content.decode()


def buttons_on(html: str, host: Host) -> set[str]:
    return {verb for verb in BUTTONS if f'id="{verb}-{host.pk}"' in html}


def press(client: Client, verb: str, host: Host, **form: str) -> str:
    """What the operator is told then."""
    response = client.post(reverse(f"console:host-{verb}", args=[host.pk]), form)
    assert response.status_code in {302, 409}
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def state_of(host: Host) -> str:
    return Host.objects.get(pk=host.pk).state


def test_each_state_has_its_buttons(fleet: Fleet, operator: Client) -> None:
    expected = {
        fleet.accepting: {"cordon", "drain"},
        fleet.draining: {"cancel-drain"},
        fleet.silent: {"confirm-off"},
        fleet.dead: {"repaired"},
        fleet.maintenance: {"return"},
    }
    pool = operator.get(reverse("console:pool", args=[fleet.pool.pk])).content.decode()
    for host, verbs in expected.items():
        assert buttons_on(html_of(operator, host), host) == verbs
        assert buttons_on(pool, host) == verbs


def test_a_cordoned_host_is_uncordoned_from_the_page_of_its_pool(
    fleet: Fleet, operator: Client
) -> None:
    pool = reverse("console:pool", args=[fleet.pool.pk])
    for verb, state in (("cordon", HostState.CORDONED), ("uncordon", HostState.ACCEPTING)):
        address = reverse(f"console:host-{verb}", args=[fleet.accepting.pk])
        assert operator.post(address, {"next": pool})["Location"] == pool
        assert state_of(fleet.accepting) == state
    entry = AuditEntry.objects.get(action="host.cordon")
    assert (entry.actor, entry.address) == ("user:olga", "127.0.0.1")


def test_a_form_does_not_lead_out_of_the_console(fleet: Fleet, operator: Client) -> None:
    address = reverse("console:host-cordon", args=[fleet.accepting.pk])
    response = operator.post(address, {"next": "https://elsewhere.example/"})
    assert response["Location"].startswith("/console/")


def test_draining_asks_first_and_says_what_would_move(fleet: Fleet, operator: Client) -> None:
    address = reverse("console:host-drain", args=[fleet.accepting.pk])
    html = operator.get(address).content.decode()
    assert "Its 2 instances move to other hosts alive" in html
    assert "By memory, 2 of them find no room" in html
    assert state_of(fleet.accepting) == HostState.ACCEPTING
    assert "is being drained" in press(operator, "drain", fleet.accepting)
    assert state_of(fleet.accepting) == HostState.DRAINING


def test_how_far_a_draining_is_and_what_each_waits_for(fleet: Fleet, operator: Client) -> None:
    html = html_of(operator, fleet.draining)
    assert "of 3 instances have moved" in html
    assert "<strong>empty</strong>" in html
    assert "No host for 264 MiB: xen-1 is full." in html
    assert "an alarm opens at" in html
    assert html.count("instance.migrate") >= 3


def test_a_draining_is_called_off(fleet: Fleet, operator: Client) -> None:
    assert "being called off" in press(operator, "cancel-drain", fleet.draining)
    html = html_of(operator, fleet.draining)
    assert "turning back" in html
    assert buttons_on(html, fleet.draining) == set()


def test_a_host_is_returned_to_service(fleet: Fleet, operator: Client) -> None:
    press(operator, "return", fleet.maintenance)
    assert Operation.objects.get(host=fleet.maintenance).kind == "host.return"
    html = html_of(operator, fleet.maintenance)
    assert "returning" in html
    assert buttons_on(html, fleet.maintenance) == set()


def test_a_dead_host_is_repaired_once_its_pool_hears_of_it(fleet: Fleet, operator: Client) -> None:
    Host.objects.filter(pk=fleet.dead.pk).update(live=False)
    assert buttons_on(html_of(operator, fleet.dead), fleet.dead) == set()
    assert "does not hear of it yet" in press(operator, "repaired", fleet.dead)
    Host.objects.filter(pk=fleet.dead.pk).update(live=True)
    press(operator, "repaired", fleet.dead)
    assert state_of(fleet.dead) == HostState.MAINTENANCE


def test_whoever_vouches_for_a_host_types_its_name(fleet: Fleet, operator: Client) -> None:
    address = reverse("console:host-confirm-off", args=[fleet.silent.pk])
    refused = operator.post(address, {"name": "xen-1"})
    assert refused.status_code == 409
    assert "That is not the name of this host." in refused.content.decode()
    assert "vouched" in press(operator, "confirm-off", fleet.silent, name="xen-3")
    html = html_of(operator, fleet.silent)
    assert "user:olga vouched at" in html
    assert buttons_on(html, fleet.silent) == set()


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("uncordon", "The host is dead."),
        ("cancel-drain", "The host is dead."),
        ("return", "The host is dead."),
        ("drain", "The host is dead."),
        ("confirm-off", "no fence of it has failed"),
    ],
)
def test_what_its_state_forbids_is_said_and_breaks_nothing(
    fleet: Fleet, operator: Client, verb: str, told: str
) -> None:
    assert told in press(operator, verb, fleet.dead)
    assert state_of(fleet.dead) == HostState.DEAD


@pytest.mark.parametrize("verb", ["drain", "confirm-off"])
def test_a_question_that_its_state_has_answered_is_not_asked(
    fleet: Fleet, operator: Client, verb: str
) -> None:
    response = operator.get(reverse(f"console:host-{verb}", args=[fleet.dead.pk]), follow=True)
    assert response.redirect_chain[-1][0].endswith(f"/hosts/{fleet.dead.pk}/")
    assert "That is not to be done now: xen-4 is dead." in response.content.decode()


def test_a_host_is_found_without_its_pool(fleet: Fleet, operator: Client) -> None:
    response = operator.get(reverse("console:host-anywhere", args=[fleet.dead.pk]))
    assert response["Location"].endswith(f"/hosts/{fleet.dead.pk}/")


def test_the_page_costs_no_more_for_many_instances(
    fleet: Fleet, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    set_limits(fleet.tenant, {"containers": 100, "vcpus": 100})
    Host.objects.filter(pk=fleet.draining.pk).update(state=HostState.ACCEPTING)
    for _ in range(20):
        instance = make_instance(fleet.tenant, host=fleet.draining)
        fleet.drain.children.create(kind="instance.migrate", instance=instance, requested_by="t")
    with django_assert_max_num_queries(21):
        html_of(operator, fleet.draining)


def test_the_pool_says_whether_one_host_could_die(fleet: Fleet, operator: Client) -> None:
    pool = reverse("console:pool", args=[fleet.pool.pk])
    assert "some would wait for room" in operator.get(pool).content.decode()
    Host.objects.update(state=HostState.ACCEPTING, live=True, enabled=True)
    html = operator.get(pool).content.decode()
    assert "all would start elsewhere" in html
    assert "2 would start elsewhere" in html
