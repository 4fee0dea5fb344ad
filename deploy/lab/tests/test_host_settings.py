from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.lab.testing import running_lab
from deploy.lab.tests.networking import client, network_named, pif_of, refusal


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    with running_lab(2, tls=False) as lab, client(lab) as api:
        yield api


@pytest.fixture
def host(api: Any) -> str:
    return str(api.host.get_by_name_label("h1")[0])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "hostname empty"),
        ("a" * 256, "hostname is too long"),
        ("-a", "hostname contains invalid characters"),
        ("a_b", "hostname contains invalid characters"),
    ],
)
def test_a_bad_hostname_is_refused_with_its_reason(
    api: Any, host: str, name: str, reason: str
) -> None:
    refused = refusal(lambda: api.host.set_hostname_live(host, name))
    assert refused == ["HOST_NAME_INVALID", reason]


def test_multipathing_and_iqn_show_in_other_config_too(api: Any, host: str) -> None:
    api.host.set_multipathing(host, True)
    api.host.set_iscsi_iqn(host, "iqn.2001-01.com.example:a")
    other_config = api.host.get_other_config(host)
    assert other_config["multipathing"] == "true"
    assert other_config["iscsi_iqn"] == "iqn.2001-01.com.example:a"
    assert refusal(lambda: api.host.set_iscsi_iqn(host, "")) == ["INVALID_VALUE", "value", ""]


def test_the_local_cache_is_set_on_a_host_out_of_service(api: Any, host: str) -> None:
    local = next(
        record["SR"]
        for record in api.PBD.get_all_records().values()
        if record["host"] == host and api.SR.get_type(record["SR"]) == "ext"
    )
    refused = refusal(lambda: api.host.enable_local_storage_caching(host, local))
    assert refused == ["HOST_NOT_DISABLED"]
    api.host.disable(host)
    api.host.enable_local_storage_caching(host, local)
    assert api.host.get_local_cache_sr(host) == local
    assert api.SR.get_local_cache_enabled(local) is True
    api.host.disable_local_storage_caching(host)
    assert api.host.get_local_cache_sr(host) == "OpaqueRef:NULL"
    api.host.enable(host)


def test_an_interface_without_an_address_does_not_manage_nor_receive(api: Any, host: str) -> None:
    eth1 = pif_of(api, host, "eth1")
    wanted = ["PIF_HAS_NO_NETWORK_CONFIGURATION", eth1]
    assert refusal(lambda: api.host.management_reconfigure(eth1)) == wanted
    network = network_named(api, "xenbr1")
    assert refusal(lambda: api.host.migrate_receive(host, network, {})) == wanted
    other = api.network.create({"name_label": "n", "other_config": {}})
    refused = refusal(lambda: api.host.migrate_receive(host, other, {}))
    assert refused == ["HOST_CANNOT_ATTACH_NETWORK", host, other]


@pytest.mark.parametrize("method", ["get_log", "dmesg_clear"])
def test_logs_are_not_served(api: Any, host: str, method: str) -> None:
    assert refusal(lambda: getattr(api.host, method)(host)) == ["NOT_IMPLEMENTED", method]


def test_the_console_display_changes_at_the_next_start(api: Any, host: str) -> None:
    assert api.host.disable_display(host) == "disable_on_reboot"
    assert api.host.enable_display(host) == "enabled"


def test_name_servers_that_are_no_addresses_are_dropped(api: Any, host: str) -> None:
    eth1 = pif_of(api, host, "eth1")
    api.PIF.reconfigure_ip(
        eth1, "Static", "10.0.0.1", "255.255.255.0", "", "10.0.0.2,none,10.0.0.3"
    )
    assert api.PIF.get_DNS(eth1) == "10.0.0.2,10.0.0.3"
    api.PIF.reconfigure_ipv6(eth1, "None", "", "", "")
    assert api.PIF.get_DNS(eth1) == "10.0.0.2,10.0.0.3"


def test_what_other_config_says_of_storage_is_followed(api: Any, host: str) -> None:
    api.host.set_other_config(host, {"iscsi_iqn": "iqn.2002-02.com.example:b"})
    deadline = time.monotonic() + 10.0
    while api.host.get_iscsi_iqn(host) != "iqn.2002-02.com.example:b":
        assert time.monotonic() < deadline
    api.host.remove_from_other_config(host, "multipathing")
    api.host.add_to_other_config(host, "multipathing", "false")
    while api.host.get_multipathing(host):
        assert time.monotonic() < deadline
