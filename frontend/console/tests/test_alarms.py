"""Alarms: which stand, what they are about, and what to do about them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from frontend.console.runbooks import FOLDER, render
from frontend.console.templatetags.subjects import subject
from frontend.console.tests.worlds import Fleet
from hosting.alarms.models import Alarm, AuditEntry
from hosting.alarms.services import open_alarm
from hosting.fleet.models import VirtualMachine

pytestmark = pytest.mark.django_db
CODES = sorted({page.stem for page in FOLDER.glob("*.md")} - {"README"})


def html_of(client: Client) -> str:
    return client.get(reverse("console:alarms")).content.decode()


def test_standing_alarms_lead_to_what_they_are_about_and_to_their_runbooks(
    fleet: Fleet, operator: Client
) -> None:
    html = html_of(operator)
    assert reverse("console:host-anywhere", args=[fleet.silent.pk]) in html
    assert reverse("console:runbook", args=["host-not-fenced"]) in html
    assert "kind=instance.restart&amp;trouble=bug" in html


def test_each_page_counts_the_alarms_that_stand(fleet: Fleet, operator: Client) -> None:
    html = operator.get(reverse("console:operations")).content.decode()
    assert '<span class="count">2</span>' in html
    Alarm.objects.close(Alarm.objects.values_list("tag", flat=True))
    assert 'class="count"' not in operator.get(reverse("console:operations")).content.decode()


def test_a_closed_alarm_is_among_the_closed(fleet: Fleet, operator: Client) -> None:
    standing, _, closed = html_of(operator).partition("closed-title")
    assert "instance.provision takes too long" not in standing
    assert "instance.provision takes too long" in closed


def test_where_no_alarm_stands_the_page_says_so(operator: Client) -> None:
    assert "No alarm stands." in html_of(operator)


def test_others_see_who_looks_at_it(fleet: Fleet, operator: Client) -> None:
    alarm = Alarm.objects.all().of_codes(["host-not-fenced"]).get()
    response = operator.post(reverse("console:alarm-acknowledge", args=[alarm.pk]))
    assert response["Location"] == reverse("console:alarms")
    html = html_of(operator)
    assert "user:olga looks at it" in html
    assert f'id="ack-{alarm.pk}"' not in html


def test_an_alarm_that_was_never_there_is_not_acknowledged(operator: Client) -> None:
    assert operator.post(reverse("console:alarm-acknowledge", args=[7])).status_code == 404


@pytest.mark.parametrize("code", CODES)
def test_every_runbook_is_a_page(operator: Client, code: str) -> None:
    html = operator.get(reverse("console:runbook", args=[code])).content.decode()
    assert f"<h1>{code}</h1>" in html
    assert "<li>" in html
    assert "**" not in html


@pytest.mark.parametrize("code", ["README", "nothing-here", "x_y", "settings"])
def test_what_is_no_runbook_is_not_read(operator: Client, code: str) -> None:
    assert operator.get(reverse("console:runbook", args=[code])).status_code == 404


def test_a_runbook_is_text_before_it_is_markup() -> None:
    html = render("# x\n\n**Seen:** `a < b` and *so*\n**Meanwhile:** <script>\n\n1. one\n2. two")
    assert html == (
        "<p><strong>Seen:</strong> <code>a &lt; b</code> and <em>so</em></p>\n"
        "<p><strong>Meanwhile:</strong> &lt;script&gt;</p>\n"
        "<ol><li>one</li><li>two</li></ol>"
    )


@pytest.mark.parametrize("code", CODES)
def test_every_alarm_leads_to_a_page_of_what_it_is_about(operator: Client, code: str) -> None:
    about = {"step-broken": "host.recover.fence", "ledger-wrong": f"host:{uuid4()}.memory_bytes"}
    open_alarm(f"{code}:{about.get(code, uuid4())}", title="x")
    assert subject(Alarm.objects.get()) is not None


def test_a_lost_vm_is_vouched_for_by_the_name_of_its_container(
    fleet: Fleet, operator: Client
) -> None:
    instance = fleet.instances[0]
    VirtualMachine.objects.filter(instance_uuid=instance.pk).delete()
    open_alarm(f"vm-lost:{instance.pk}", title="x")
    address = reverse("console:vm-is-gone", args=[instance.pk])
    assert address in html_of(operator)
    refused = operator.post(address, {"name": "another"})
    assert refused.status_code == 409
    assert "That is not the name of this container." in refused.content.decode()
    assert operator.post(address, {"name": instance.container.name}).status_code == 302
    instance.refresh_from_db()
    assert instance.host is None
    assert AuditEntry.objects.get(action="instance.vm_is_gone").actor == "user:olga"


def test_a_vm_that_its_pool_shows_is_not_gone(fleet: Fleet, operator: Client) -> None:
    instance = fleet.instances[0]
    address = reverse("console:vm-is-gone", args=[instance.pk])
    refused = operator.post(address, {"name": instance.container.name})
    assert refused.status_code == 409
    assert "Its pool shows a VM of it." in refused.content.decode()


@pytest.mark.parametrize(
    "tag", ["strange:x", "host-not-fenced:x", "ledger-wrong:x", "ledger-wrong:x:y", "vm-lost:x"]
)
def test_a_strange_tag_leads_nowhere(tag: str) -> None:
    assert subject(Alarm(tag=tag)) is None
