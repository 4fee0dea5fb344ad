"""What operators do to hosts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from hosting.alarms.selectors import audit_of
from hosting.alarms.services import open_alarm
from hosting.errors import Conflict
from hosting.fleet.choices import HostState
from hosting.fleet.models import Host
from hosting.fleet.services import (
    cancel_drain,
    confirm_host_is_off,
    cordon_host,
    declare_host_repaired,
    drain_host,
    return_host,
    store_bmc,
    uncordon_host,
)
from hosting.fleet.tests.makers import make_host, make_pool
from hosting.operations import bell
from hosting.operations.models import Operation
from hosting.operations.services import request

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "_ring", lambda asked: None)


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


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.MAINTENANCE])
def test_what_is_drained_comes_back_by_being_returned_and_not_by_a_cordon(state: HostState) -> None:
    host = make_host(state=state)
    for change in (cordon_host, uncordon_host):
        with pytest.raises(Conflict, match=state.value):
            change(host, actor="user:olga")


@pytest.mark.parametrize("state", [HostState.ACCEPTING, HostState.CORDONED])
def test_draining_asked_twice_is_asked_once(state: HostState) -> None:
    host = make_host(state=state)
    first = drain_host(host, actor="user:olga", address="192.0.2.7")
    assert drain_host(host, actor="user:otto") == first
    assert (first.kind, first.requested_by) == ("host.evacuate", "user:olga")
    assert Host.objects.get().state == HostState.DRAINING
    entry = audit_of(f"host:{host.pk}").get()
    assert (entry.action, entry.address, entry.facts) == (
        "host.drain",
        "192.0.2.7",
        {"from": state.value},
    )


@pytest.mark.parametrize(
    "state", [HostState.MAINTENANCE, HostState.SUSPECT, HostState.FENCED, HostState.DEAD]
)
def test_a_host_out_of_service_is_not_drained(state: HostState) -> None:
    with pytest.raises(Conflict, match=state.value):
        drain_host(make_host(state=state), actor="user:olga")
    assert not Operation.objects.exists()


def test_a_host_with_which_something_else_is_done_is_not_drained() -> None:
    host = make_host()
    request("host.recover", host, requested_by="system:reconcile")
    with pytest.raises(Conflict) as refused:
        drain_host(host, actor="user:olga")
    assert refused.value.code == "operation_in_progress"
    assert Host.objects.get().state == HostState.ACCEPTING
    assert not audit_of(f"host:{host.pk}").exists()


def test_a_drain_is_called_off_once() -> None:
    host = make_host()
    drain_host(host, actor="user:olga")
    for _ in range(2):
        draining = cancel_drain(host, actor="user:otto")
    assert draining.cancel_requested_at is not None
    assert [entry.action for entry in audit_of(f"host:{host.pk}")].count("host.cancel_drain") == 1
    with pytest.raises(Conflict) as refused:
        drain_host(host, actor="user:olga")
    assert refused.value.code == "operation_in_progress"


@pytest.mark.django_db(transaction=True)
def test_draining_asked_by_many_at_once_is_asked_once() -> None:
    host = make_host()
    start = Barrier(4)

    def drain(number: int) -> UUID:
        start.wait(10)
        try:
            return drain_host(host, actor=f"user:{number}").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        asked = set(threads.map(drain, range(4)))
    assert asked == {Operation.objects.get().pk}
    assert audit_of(f"host:{host.pk}").count() == 1


def test_where_nothing_is_drained_nothing_is_called_off() -> None:
    with pytest.raises(Conflict, match="accepting"):
        cancel_drain(make_host(), actor="user:olga")


def test_a_host_is_returned_from_maintenance_alone_and_once() -> None:
    host = make_host(state=HostState.MAINTENANCE)
    first = return_host(host, actor="user:olga")
    assert return_host(host, actor="user:otto") == first
    assert first.kind == "host.return"
    assert audit_of(f"host:{host.pk}").get().action == "host.return"
    with pytest.raises(Conflict, match="cordoned"):
        return_host(make_host(state=HostState.CORDONED), actor="user:olga")


def test_a_recovery_that_waits_for_room_lets_go_when_its_host_returns() -> None:
    host = make_host(state=HostState.MAINTENANCE)
    recovery = request("host.recover", host, requested_by="system:reconcile")
    first = return_host(host, actor="user:olga")
    assert return_host(host, actor="user:olga") == first
    recovery.refresh_from_db()
    assert (first.kind, first.state, recovery.superseded_by) == ("host.return", "queued", first)
    assert audit_of(f"host:{host.pk}").count() == 1


def test_a_dead_host_waits_in_maintenance_when_it_was_repaired() -> None:
    host = make_host(state=HostState.DEAD)
    assert declare_host_repaired(host, actor="user:olga").state == HostState.MAINTENANCE
    assert audit_of(f"host:{host.pk}").get().action == "host.repaired"


def test_a_dead_host_that_keeps_silent_is_not_repaired() -> None:
    host = make_host(state=HostState.DEAD, live=False)
    with pytest.raises(Conflict) as refused:
        declare_host_repaired(host, actor="user:olga")
    assert refused.value.code == "host_silent"
    with pytest.raises(Conflict, match="accepting"):
        declare_host_repaired(make_host(live=False), actor="user:olga")


def test_who_vouched_for_a_host_and_when_is_written_down_until_its_state_changes() -> None:
    host = make_host(state=HostState.SUSPECT)
    recovery = request("host.recover", host, requested_by="system:reconcile")
    open_alarm(f"host-not-fenced:{host.pk}", title="x")
    assert confirm_host_is_off(host, " xen-1 ", actor="user:olga") == recovery
    host.refresh_from_db()
    assert host.is_confirmed_off
    assert host.confirmed_off_by == "user:olga"
    entry = audit_of(f"host:{host.pk}").get()
    assert (entry.action, entry.facts) == ("host.confirm_off", {"recovery": str(recovery.pk)})
    Host.objects.filter(pk=host.pk).move_to(HostState.FENCED)
    host.refresh_from_db()
    assert not host.is_confirmed_off


def test_the_database_keeps_no_word_about_a_host_that_nobody_doubts() -> None:
    host = make_host()
    with pytest.raises(IntegrityError), transaction.atomic():
        Host.objects.filter(pk=host.pk).update(confirmed_off_by="x", confirmed_off_at=Now())


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
