from dataclasses import asdict
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from frontend.console.templatetags.figures import percent_of, size
from hosting.alarms.choices import Severity
from hosting.alarms.services import open_alarm
from hosting.compute.services import Sizes
from hosting.fleet.choices import PoolState, PowerState
from hosting.fleet.models import Pool
from hosting.fleet.tests.makers import GIB, make_host, make_pool, make_vm
from hosting.warm.models import Blank, WarmPolicy
from hosting.warm.services import set_warm
from hosting.warm.tests.makers import make_blank
from tenants.models import User

pytestmark = pytest.mark.django_db

PLAIN_QUERIES = 18
"""Session, user, pool, two sums, hosts, room, alarms and their number, VMs and their number, storage, blanks."""


def page_of(client: Client, pool: Pool, **query: Any) -> str:
    response = client.get(reverse("console:pool", args=[pool.pk]), query)
    assert response.status_code == 200
    return response.content.decode()


def test_a_stranger_is_asked_to_sign_in(client: Client) -> None:
    response = client.get(reverse("console:pools"))
    assert response.status_code == 302
    assert response["Location"] == "/login/?next=/console/"


def test_a_tenants_user_is_told_that_the_console_is_not_for_them(client: Client) -> None:
    client.force_login(User.objects.create_user("alice"))
    response = client.get(reverse("console:pools"))
    assert response.status_code == 403
    assert "Not for you" in response.content.decode()


def test_without_a_pool_the_page_says_how_to_enrol_one(operator: Client) -> None:
    assert "manage.py enrol_pool" in operator.get(reverse("console:pools")).content.decode()


def test_with_one_pool_the_console_opens_on_it(operator: Client) -> None:
    pool = make_pool()
    response = operator.get(reverse("console:pools"))
    assert response["Location"] == reverse("console:pool", args=[pool.pk])


def test_with_several_pools_each_is_listed_with_its_state(operator: Client) -> None:
    make_pool(name="east")
    make_pool(name="west", state=PoolState.UNREACHABLE)
    html = operator.get(reverse("console:pools")).content.decode()
    assert "east" in html
    assert "unreachable" in html


def test_a_pool_shows_its_hosts_with_capacity_and_its_vms(operator: Client) -> None:
    pool = make_pool()
    host = make_host(pool, name="xen-7", memory_free_bytes=1 * GIB)
    make_vm(pool, name="web-1", resident_on=host, memory_bytes=GIB)
    html = page_of(operator, pool)
    assert "xen-7" in html
    assert "3 GiB" in html  # in use, of 4
    assert "web-1" in html


def test_an_unreachable_pool_says_that_what_is_shown_is_old(operator: Client) -> None:
    html = page_of(operator, make_pool(state=PoolState.UNREACHABLE))
    assert "has not answered since" in html


def test_a_standing_alarm_is_shown_on_the_page(operator: Client) -> None:
    open_alarm("pool-unreachable:x", severity=Severity.CRITICAL, title="Pool lost")
    assert "Pool lost" in page_of(operator, make_pool())


def test_vms_are_found_by_name_state_host_and_uuid(operator: Client) -> None:
    pool = make_pool()
    here, there = make_host(pool, name="a"), make_host(pool, name="b")
    vm = make_vm(pool, name="alpha", resident_on=here)
    make_vm(pool, name="beta", resident_on=there, power_state=PowerState.HALTED)
    for query in ({"q": "ALP"}, {"state": "Running"}, {"host": str(here.pk)}, {"q": str(vm.pk)}):
        html = page_of(operator, pool, **query)
        assert "alpha" in html, query
        assert "<strong>beta" not in html, query


@pytest.mark.parametrize("query", [{"host": "x"}, {"state": "Flying"}, {"q": "\0"}, {"page": "x"}])
def test_nonsense_in_the_address_narrows_nothing(operator: Client, query: dict[str, str]) -> None:
    pool = make_pool()
    make_vm(pool, name="alpha")
    assert "alpha" in page_of(operator, pool, **query)


def test_a_name_written_by_a_guest_or_tenant_is_never_markup(operator: Client) -> None:
    pool = make_pool()
    make_vm(pool, name="<script>x</script>", guest_networks={"0/ip": "<img src=x>"})
    html = page_of(operator, pool)
    assert "<script>x" not in html
    assert "<img src=x>" not in html


def test_an_address_that_a_guest_tells_by_two_names_is_shown_once(operator: Client) -> None:
    pool = make_pool()
    make_vm(pool, guest_networks={"0/ip": "10.64.0.2", "0/ipv4/0": "10.64.0.2"})
    assert page_of(operator, pool).count("10.64.0.2") == 1


def test_the_page_says_which_interface_carries_networks(operator: Client) -> None:
    html = page_of(operator, make_pool(network_device="eth1", vlan_first=7, vlan_last=9))
    assert "networks on eth1, VLANs 7–9" in html
    assert "networks on" not in page_of(operator, make_pool())


def test_the_page_says_how_many_blanks_are_wanted_and_how_many_are_ready(operator: Client) -> None:
    pool = make_pool()
    ready, empty = make_host(pool, name="a"), make_host(pool, name="b")
    assert "Blanks" not in page_of(operator, pool)
    make_blank(ready)
    pool.refresh_from_db()
    set_warm(pool, Sizes(memory_bytes=256 * 2**20), count=2, actor="t")
    Blank.objects.create(pool=pool, host=empty, **asdict(Sizes()))
    html = " ".join(unescape(page_of(operator, pool)).split())
    assert "Blanks on each accepting host: 2 × 1 vCPU with 256 MiB and a disk of 1 GiB" in html
    assert '<span>1<span class="dim"> of 2</span></span>' in html
    assert '<span>0<span class="dim"> of 2</span><span class="dim">, 1 coming</span>' in html


def test_the_page_says_why_a_pool_that_boots_from_disks_has_no_blanks(operator: Client) -> None:
    pool = make_pool()
    WarmPolicy.objects.create(pool=pool, **asdict(Sizes(2, 2**30)), count=1)
    html = unescape(page_of(operator, pool))
    assert (
        "1 × 2 vCPUs with 1 GiB and a disk of 1 GiB – none while the pool’s VMs boot from their disks"
        in html
    )


def test_the_page_costs_as_many_queries_for_many_hosts_and_vms_as_for_few(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    pool = make_pool()
    for number in range(30):
        host = make_host(pool, name=f"h{number}")
        make_vm(pool, name=f"v{number}", resident_on=host)
    with django_assert_max_num_queries(PLAIN_QUERIES):
        page_of(operator, pool)


def test_a_long_list_of_vms_comes_in_pages(operator: Client) -> None:
    pool = make_pool()
    for number in range(51):
        make_vm(pool, name=f"vm-{number:02}")
    first, second = page_of(operator, pool), page_of(operator, pool, page=2)
    assert "1–50 of 51" in first
    assert "vm-50" not in first
    assert "vm-50" in second


def test_a_host_shows_only_the_vms_on_it(operator: Client) -> None:
    pool = make_pool()
    here, there = make_host(pool, name="a"), make_host(pool, name="b")
    make_vm(pool, name="mine", resident_on=here)
    make_vm(pool, name="other", resident_on=there)
    html = operator.get(reverse("console:host", args=[pool.pk, here.pk])).content.decode()
    assert "mine" in html
    assert "<strong>other" not in html


def test_a_host_of_another_pool_is_not_there(operator: Client) -> None:
    host = make_host(make_pool())
    response = operator.get(reverse("console:host", args=[make_pool().pk, host.pk]))
    assert response.status_code == 404


def test_an_unknown_pool_is_not_there(operator: Client) -> None:
    assert operator.get(reverse("console:pool", args=[uuid4()])).status_code == 404


def test_the_page_needs_nothing_that_its_security_policy_forbids(operator: Client) -> None:
    response = operator.get(reverse("console:pool", args=[make_pool().pk]))
    assert "script-src 'self'" in response["Content-Security-Policy"]
    html = response.content.decode()
    assert " style=" not in html
    assert " onclick=" not in html


def test_signing_in_leads_to_where_one_wanted_to_go(client: Client) -> None:
    User.objects.create_user("olga", password="correct horse battery", is_staff=True)
    form = {"username": "olga", "password": "correct horse battery", "next": "/console/"}
    wrong = client.post(reverse("login"), {**form, "password": "x"})
    assert "do not belong together" in wrong.content.decode()
    assert client.post(reverse("login"), form)["Location"] == "/console/"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 * GIB, "64 GiB"), (None, "–"), (-1, "–")],
)
def test_sizes_read_as_people_write_them(size_bytes: int | None, text: str) -> None:
    assert size(size_bytes) == text


def test_a_share_of_nothing_is_nothing() -> None:
    assert percent_of(5, 0) == 0
    assert percent_of(5, 4) == 100
