"""Every address of the console: operators only, and what changes something by POST only."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from frontend.console.tests.worlds import Fleet
from frontend.console.urls import urlpatterns
from tenants.models import User

EVENTS = {"events", "pool-events"}
ACTIONS = {
    "host-cordon",
    "host-uncordon",
    "host-cancel-drain",
    "host-return",
    "host-repaired",
    "operation-cancel",
    "operation-wake",
    "alarm-acknowledge",
}
NAMES = sorted({str(pattern.name) for pattern in urlpatterns} - EVENTS)


def address(fleet: Fleet, name: str) -> str:
    given: dict[str, Any] = {
        "pool": [fleet.pool.pk],
        "host": [fleet.pool.pk, fleet.accepting.pk],
        "alarm-acknowledge": [1],
        "runbook": ["host-not-fenced"],
        "vm-is-gone": [fleet.instances[0].pk],
        "tenant": ["acme"],
        "tenant-limits": ["acme"],
        "tenant-anywhere": [fleet.tenant.pk],
    }
    if name in given:
        return reverse(f"console:{name}", args=given[name])
    if name.startswith("host-"):
        return reverse(f"console:{name}", args=[fleet.accepting.pk])
    if name.startswith("operation-") or name == "operation":
        return reverse(f"console:{name}", args=[fleet.drain.pk])
    return reverse(f"console:{name}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_strangers_sign_in_and_others_are_told_that_it_is_not_for_them(
    fleet: Fleet, client: Client, name: str, method: str
) -> None:
    wrong_method = 405 if (name in ACTIONS) == (method == "get") else None
    path = address(fleet, name)
    stranger = getattr(client, method)(path)
    assert stranger.status_code in {302, wrong_method}
    if stranger.status_code == 302:
        assert stranger["Location"].startswith("/login/?next=")
    client.force_login(User.objects.create_user("alice"))
    assert getattr(client, method)(path).status_code in {403, wrong_method}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ACTIONS])
def test_an_operator_sees_it(fleet: Fleet, operator: Client, name: str) -> None:
    response = operator.get(address(fleet, name), follow=True)
    assert response.status_code == 200
    html = response.content.decode()
    assert " style=" not in html
    assert " onclick=" not in html
    assert "script-src 'self'" in response["Content-Security-Policy"]


def test_what_is_done_needs_the_forms_token(fleet: Fleet) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("olga", is_staff=True))
    assert client.post(address(fleet, "host-cordon")).status_code == 403


@pytest.mark.parametrize(
    ("name", "section"),
    [("pool", "Pools"), ("operation", "Operations"), ("alarms", "Alarms"), ("tenant", "Tenants")],
)
def test_the_navigation_says_where_one_is(
    fleet: Fleet, operator: Client, name: str, section: str
) -> None:
    html = operator.get(address(fleet, name)).content.decode()
    assert f'aria-current="page">{section}' in html
