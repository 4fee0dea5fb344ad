"""The pool: licence, settings, membership, a coordinator by choice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from XenAPI import XenAPI

from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, error_of, vms_of


@pytest.fixture
def vms() -> Iterator[Vms]:
    with running_lab(hosts=2, tls=False, preset="small", rate=20.0) as lab, vms_of(lab) as vms:
        yield vms


def test_the_licence_never_ends(vms: Vms) -> None:
    pool = vms.api.pool.get_all()[0]
    assert vms.api.pool.get_license_state(pool) == {"edition": "xcp-ng", "expiry": "never"}
    assert vms.api.pool.get_restrictions(pool)["restrict_vlan"] == "false"


def test_a_host_of_a_pool_joins_no_other(vms: Vms) -> None:
    answer = error_of(vms.api.pool.join, "192.0.2.1", "root", "x")
    assert answer == ["OPERATION_NOT_ALLOWED", "Host is already part of a pool"]


def test_the_coordinator_cannot_be_ejected(vms: Vms) -> None:
    answer = error_of(vms.api.pool.eject, vms.hosts["h1"])
    assert answer == ["INTERNAL_ERROR", "Xapi_pool.Cannot_eject_master"]


def test_an_ejected_host_takes_its_own_storage_along(vms: Vms) -> None:
    local = vms.local_storage("h2")
    vms.api.pool.eject(vms.hosts["h2"])
    assert list(vms.api.host.get_all()) == [vms.hosts["h1"]]
    assert error_of(vms.api.SR.get_record, local)[0] == "HANDLE_INVALID"


def test_a_host_with_a_running_vm_is_not_ejected(vms: Vms) -> None:
    vms.started("h2")
    answer = error_of(vms.api.pool.eject, vms.hosts["h2"])
    assert answer == ["OPERATION_NOT_ALLOWED", "VM resident on host"]


def test_the_older_call_for_vlans_wants_the_device_on_every_host(vms: Vms) -> None:
    network = vms.api.network.create({"name_label": "n", "other_config": {}})
    assert error_of(vms.api.pool.create_VLAN, "eth9", network, "5") == [
        "INVALID_VALUE",
        "device",
        "eth9",
    ]
    assert len(vms.api.pool.create_VLAN("eth1", network, "5")) == 2


def test_settings_are_checked_before_they_are_written(vms: Vms) -> None:
    pool, api = vms.api.pool.get_all()[0], vms.api
    for call, arguments, expected in (
        (api.pool.set_update_sync_enabled, (True,), ["NO_REPOSITORIES_CONFIGURED"]),
        (
            api.pool.configure_update_sync,
            ("weekly", "7"),
            ["INVALID_UPDATE_SYNC_DAY", "7"],
        ),
        (
            api.pool.add_to_guest_agent_config,
            ("colour", "red"),
            ["INVALID_VALUE", "guest_agent_config", "colour = red"],
        ),
        (
            api.pool.configure_repository_proxy,
            ("ftp://x", "", ""),
            ["INVALID_REPOSITORY_PROXY_URL", "ftp://x"],
        ),
        (
            api.pool.configure_repository_proxy,
            ("http://x", "user", ""),
            ["INVALID_REPOSITORY_PROXY_CREDENTIAL"],
        ),
        (api.pool.set_ext_auth_cache_expiry, ("0",), ["INVALID_VALUE", "expiry", "0"]),
        (api.pool.enable_external_auth, ({}, "", "LDAP"), ["AUTH_UNKNOWN_TYPE", "LDAP"]),
    ):
        assert error_of(call, pool, *arguments) == expected
    api.pool.configure_update_sync(pool, "daily", "3")
    assert api.pool.get_update_sync_day(pool) == "0"


def test_designating_the_coordinator_changes_nothing(vms: Vms) -> None:
    vms.api.pool.designate_new_master(vms.hosts["h1"])
    assert vms.api.pool.get_master(vms.api.pool.get_all()[0]) == vms.hosts["h1"]


def test_another_host_takes_over_when_it_is_asked_to(vms: Vms) -> None:
    vm = vms.vm()
    vms.api.pool.designate_new_master(vms.hosts["h2"])
    vms.lab.clock.advance(60.0)
    former = XenAPI.Session(vms.lab.urls[0], ignore_ssl=True)
    answer = error_of(former.login_with_password, "root", vms.lab.password, "2.21", "tests")
    former("close")()
    assert answer[0] == "HOST_IS_SLAVE"
    with vms_of(vms.lab) as after:
        assert after.api.pool.get_master(after.api.pool.get_all()[0]) == vms.hosts["h2"]
        assert after.api.VM.get_power_state(vm) == "Halted"


def test_calls_between_hosts_are_not_for_clients(vms: Vms) -> None:
    answer = error_of(vms.api.host.ha_disable_failover_decisions, vms.hosts["h1"])
    assert answer[0] == "INTERNAL_ERROR"
    assert "non-pool (external) session" in answer[1]
