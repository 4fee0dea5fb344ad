"""What operators do to hosts."""

from __future__ import annotations

import pytest

from hosting.alarms.selectors import audit_of
from hosting.errors import Conflict
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.services import cordon_host, store_bmc, uncordon_host
from hosting.fleet.tests.makers import make_host, make_pool

pytestmark = pytest.mark.django_db


def test_a_cordoned_host_takes_nothing_new_until_it_is_uncordoned() -> None:
    host = make_host()
    assert cordon_host(host, actor="user:olga").state == HostState.CORDONED
    assert not Host.objects.accepting().exists()
    assert uncordon_host(host, actor="user:olga").state == HostState.ACCEPTING


def test_who_cordoned_it_is_written_down_once() -> None:
    host = make_host()
    for _ in range(2):
        cordon_host(host, actor="user:olga", address="192.0.2.7")
    entry = audit_of(f"host:{host.pk}").get()
    assert (entry.actor, entry.action, entry.address) == ("user:olga", "host.cordon", "192.0.2.7")
    assert entry.facts == {"from": "accepting"}


@pytest.mark.parametrize("state", [HostState.SUSPECT, HostState.FENCED, HostState.DEAD])
def test_nobody_talks_a_host_out_of_suspicion_or_death(state: HostState) -> None:
    host = make_host(state=state)
    for change in (cordon_host, uncordon_host):
        with pytest.raises(Conflict, match=state.value):
            change(host, actor="user:olga")
    assert Host.objects.get().state == state
    assert not audit_of(f"host:{host.pk}").exists()


def test_a_host_that_left_its_pool_is_not_cordoned() -> None:
    host = make_host()
    Host.objects.update(gone_at=host.state_changed_at)
    with pytest.raises(Conflict, match="gone"):
        cordon_host(host, actor="user:olga")


def give_bmc(host: Host, url: str = "https://192.0.2.9/redfish/v1/Systems/1") -> None:
    store_bmc(
        host, url=url, username="admin", password="geheim", certificate="PEM", actor="user:olga"
    )


def test_a_bmc_is_stored_with_its_password_sealed() -> None:
    host = make_host()
    give_bmc(host)
    host.refresh_from_db()
    assert (host.bmc_username, host.bmc_password) == ("admin", "geheim")
    assert "geheim" not in host.sealed_bmc_password
    assert "geheim" not in str(audit_of(f"host:{host.pk}").get().facts)


def test_two_hosts_have_no_power_switch_in_common() -> None:
    pool = make_pool()
    one, two = make_host(pool), make_host(pool)
    give_bmc(one)
    give_bmc(one)
    with pytest.raises(Conflict) as refusal:
        give_bmc(two)
    assert refusal.value.code == "bmc_taken"
