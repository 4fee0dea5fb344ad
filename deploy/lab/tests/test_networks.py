from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from deploy.lab.classes.network import check_networks
from deploy.lab.errors import XapiError
from deploy.lab.lab import Lab
from deploy.lab.testing import RunningLab, running_lab
from deploy.lab.tests.networking import (
    a_network,
    a_vm,
    client,
    network_named,
    pif_of,
    refusal,
    vif_record,
)


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running_lab(3, tls=False) as running:
        yield running


@pytest.fixture(scope="module")
def api(lab: RunningLab) -> Iterator[Any]:
    with client(lab) as api:
        yield api


def hosts_that_see(lab: RunningLab, vm: str) -> set[str]:
    def look(inner: Lab) -> set[str]:
        seen = set()
        for host in inner.db.all("host"):
            with suppress(XapiError):
                check_networks(inner, inner.db.get("VM", vm), host)
                seen.add(host.name_label)
        return seen

    return lab.do(look)


def test_bridges_are_named_in_turn_and_not_twice(api: Any) -> None:
    first, second = a_network(api), a_network(api)
    names = [api.network.get_bridge(first), api.network.get_bridge(second)]
    assert all(name.startswith("xapi") for name in names)
    api.network.destroy(second)
    assert api.network.get_bridge(a_network(api)) not in names


@pytest.mark.parametrize("bridge", ["xenbr0", "xapi7", "vif1", "tap0", "eth2", "x" * 16])
def test_reserved_and_long_bridge_names_are_refused(api: Any, bridge: str) -> None:
    assert refusal(lambda: a_network(api, bridge=bridge)) == ["INVALID_VALUE", "bridge", bridge]


def test_a_bridge_name_is_taken_once(api: Any) -> None:
    a_network(api, bridge="mybr")
    assert refusal(lambda: a_network(api, bridge="mybr")) == ["BRIDGE_NAME_EXISTS", "mybr"]


def test_an_mtu_that_cannot_be_becomes_the_usual_one(api: Any) -> None:
    assert api.network.get_MTU(a_network(api, MTU="-1")) == "1500"


def test_a_network_with_attached_vifs_stays_and_unattached_ones_go_with_it(
    lab: RunningLab, api: Any
) -> None:
    host = api.host.get_all()[0]
    network = a_network(api)
    vif = api.VIF.create(vif_record(a_vm(lab, host), network))
    api.VIF.plug(vif)
    assert refusal(lambda: api.network.destroy(network)) == ["NETWORK_CONTAINS_VIF", vif]
    api.VIF.unplug(vif)
    api.network.destroy(network)
    assert refusal(lambda: api.VIF.get_record(vif)) == ["HANDLE_INVALID", "VIF", vif]


def test_a_network_with_pifs_stays(api: Any) -> None:
    network = network_named(api, "xenbr0")
    error = refusal(lambda: api.network.destroy(network))
    assert error[0] == "NETWORK_CONTAINS_PIF"
    assert set(error[1:]) == set(api.network.get_PIFs(network))


def test_the_hosts_own_network_stays(api: Any) -> None:
    system = {"is_host_internal_management_network": "true"}
    network = a_network(api, other_config=system)
    assert refusal(lambda: api.network.destroy(network)) == [
        "CANNOT_DESTROY_SYSTEM_NETWORK",
        network,
    ]


def test_the_default_locking_mode_does_not_change_under_attached_vifs(
    lab: RunningLab, api: Any
) -> None:
    network = a_network(api)
    api.network.set_default_locking_mode(network, "disabled")
    vif = api.VIF.create(vif_record(a_vm(lab, api.host.get_all()[0]), network))
    api.VIF.plug(vif)
    expected = ["VIF_IN_USE", network, vif]
    assert refusal(lambda: api.network.set_default_locking_mode(network, "unlocked")) == expected
    assert api.network.get_default_locking_mode(network) == "disabled"


def test_purposes_that_exclude_each_other_are_refused(api: Any) -> None:
    first, second = a_network(api), a_network(api)
    api.network.add_purpose(first, "nbd")
    error = refusal(lambda: api.network.add_purpose(second, "insecure_nbd"))
    assert error == ["NETWORK_INCOMPATIBLE_PURPOSES", "insecure_nbd", "nbd"]
    api.network.remove_purpose(first, "nbd")
    api.network.add_purpose(second, "insecure_nbd")


def test_a_network_with_pifs_is_seen_by_the_hosts_that_have_one(lab: RunningLab, api: Any) -> None:
    one, two = api.host.get_all()[:2]
    network = a_network(api)
    api.VLAN.create(pif_of(api, one, "eth1"), "5", network)
    vm = a_vm(lab)
    api.VIF.create(vif_record(vm, network))
    assert hosts_that_see(lab, vm) == {api.host.get_name_label(one)}
    api.VLAN.create(pif_of(api, two, "eth1"), "5", network)
    assert len(hosts_that_see(lab, vm)) == 2


def test_the_first_running_vm_pins_an_internal_network_to_its_host(
    lab: RunningLab, api: Any
) -> None:
    network = a_network(api)
    vm = a_vm(lab)
    api.VIF.create(vif_record(vm, network))
    assert hosts_that_see(lab, vm) == {"h1", "h2", "h3"}
    h2 = api.host.get_by_name_label("h2")[0]
    api.VIF.create(vif_record(a_vm(lab, h2), network))
    assert hosts_that_see(lab, vm) == {"h2"}
    api.network.add_to_other_config(network, "assume_network_is_shared", "true")
    assert hosts_that_see(lab, vm) == {"h1", "h2", "h3"}


def test_an_unmanaged_network_is_seen_by_every_host(lab: RunningLab, api: Any) -> None:
    network = a_network(api, managed=False)
    vm = a_vm(lab)
    api.VIF.create(vif_record(vm, network))
    api.VIF.create(vif_record(a_vm(lab, api.host.get_all()[0]), network))
    assert hosts_that_see(lab, vm) == {"h1", "h2", "h3"}
