from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

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


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with running_lab(3, tls=False) as running:
        yield running


@pytest.fixture
def api(lab: RunningLab) -> Iterator[Any]:
    with client(lab) as api:
        yield api


@pytest.fixture
def host(api: Any) -> str:
    return str(api.host.get_by_name_label("h1")[0])


@pytest.fixture
def eth0(api: Any, host: str) -> str:
    return pif_of(api, host, "eth0")


@pytest.fixture
def eth1(api: Any, host: str) -> str:
    return pif_of(api, host, "eth1")


# --- VLANs


def test_a_vlan_is_a_pif_of_its_own_that_is_up(api: Any, host: str, eth1: str) -> None:
    network = a_network(api)
    vlan = api.VLAN.create(eth1, "77", network)
    record = api.VLAN.get_record(vlan)
    assert (record["tagged_PIF"], record["tag"]) == (eth1, "77")
    pif = api.PIF.get_record(record["untagged_PIF"])
    assert pif["network"] == network
    assert pif["VLAN"] == "77"
    assert pif["VLAN_master_of"] == vlan
    assert pif["MAC"] == "fe:ff:ff:ff:ff:ff"
    assert pif["metrics"] == api.PIF.get_metrics(eth1)
    assert pif["currently_attached"]
    assert not pif["physical"]
    assert api.PIF.get_VLAN_slave_of(eth1) == [vlan]


@pytest.mark.parametrize("tag", ["-1", "4095", "4096", "5000"])
def test_a_tag_out_of_range_is_refused(api: Any, eth1: str, tag: str) -> None:
    network = a_network(api)
    assert refusal(lambda: api.VLAN.create(eth1, tag, network)) == ["VLAN_TAG_INVALID", tag]


def test_a_tag_a_network_and_a_vlan_are_not_used_twice(api: Any, host: str, eth1: str) -> None:
    one, two = a_network(api), a_network(api)
    pif = api.VLAN.get_untagged_PIF(api.VLAN.create(eth1, "77", one))
    assert refusal(lambda: api.VLAN.create(eth1, "77", two)) == ["PIF_VLAN_EXISTS", "eth1"]
    connected = ["NETWORK_ALREADY_CONNECTED", host, pif]
    assert refusal(lambda: api.VLAN.create(eth1, "79", one)) == connected
    assert refusal(lambda: api.VLAN.create(pif, "5", two)) == ["PIF_IS_VLAN", pif]


def test_a_vlan_in_use_stays(lab: RunningLab, api: Any, host: str, eth1: str) -> None:
    network = a_network(api)
    vlan = api.VLAN.create(eth1, "77", network)
    pif = api.VLAN.get_untagged_PIF(vlan)
    vif = api.VIF.create(vif_record(a_vm(lab, host), network))
    api.VIF.plug(vif)
    in_use = ["VIF_IN_USE", network, vif]
    assert refusal(lambda: api.VLAN.destroy(vlan)) == in_use
    assert refusal(lambda: api.PIF.unplug(pif)) == in_use
    assert refusal(lambda: api.PIF.forget(eth1)) == ["PIF_VLAN_STILL_EXISTS", eth1]
    api.VIF.unplug(vif)
    api.VLAN.destroy(vlan)
    assert refusal(lambda: api.PIF.get_record(pif)) == ["HANDLE_INVALID", "PIF", pif]
    assert api.network.get_PIFs(network) == []


def test_a_vlan_for_the_pool_is_made_on_every_host(api: Any, eth1: str) -> None:
    network = a_network(api)
    pifs = api.pool.create_VLAN_from_PIF(eth1, network, "77")
    assert {api.PIF.get_host(pif) for pif in pifs} == set(api.host.get_all())
    assert set(api.network.get_PIFs(network)) == set(pifs)


def test_a_host_known_to_be_down_misses_the_pools_vlan(
    lab: RunningLab, api: Any, eth1: str
) -> None:
    down = api.host.get_by_name_label("h3")[0]
    lab.do(
        lambda inner: inner.db.update(
            inner.db.get("host_metrics", inner.db.get("host", down).metrics), live=False
        )
    )
    pifs = api.pool.create_VLAN_from_PIF(eth1, a_network(api), "77")
    assert {api.PIF.get_host(pif) for pif in pifs} == set(api.host.get_all()) - {down}


def test_a_vlan_for_the_pool_is_made_everywhere_or_nowhere(api: Any, eth1: str) -> None:
    h2 = api.host.get_by_name_label("h2")[0]
    taken = api.VLAN.create(pif_of(api, h2, "eth1"), "77", a_network(api))
    network = a_network(api)
    error = refusal(lambda: api.pool.create_VLAN_from_PIF(eth1, network, "77"))
    assert error == ["PIF_VLAN_EXISTS", "eth1"]
    assert api.VLAN.get_all() == [taken]
    assert api.network.get_PIFs(network) == []


def test_the_older_calls_for_vlans_work_by_device_name(api: Any, host: str, eth1: str) -> None:
    network = a_network(api)
    pif = api.PIF.create_VLAN("eth1", network, host, "9")
    assert api.PIF.get_VLAN(pif) == "9"
    assert refusal(lambda: api.PIF.destroy(eth1)) == ["PIF_IS_PHYSICAL"]
    api.PIF.destroy(pif)
    assert api.VLAN.get_all() == []
    unknown = refusal(lambda: api.PIF.create_VLAN("eth9", network, host, "9"))
    assert unknown == ["INVALID_VALUE", "device", "eth9"]


# --- plugging and forgetting


def test_the_management_interface_stays_up_and_known(api: Any, eth0: str) -> None:
    expected = ["PIF_IS_MANAGEMENT_INTERFACE", eth0]
    assert refusal(lambda: api.PIF.unplug(eth0)) == expected
    assert refusal(lambda: api.PIF.forget(eth0)) == expected
    assert refusal(lambda: api.PIF.reconfigure_ip(eth0, "None", "", "", "", "")) == expected


def test_an_interface_goes_up_and_down_unless_that_is_disallowed(api: Any, eth1: str) -> None:
    api.PIF.plug(eth1)
    assert api.PIF.get_currently_attached(eth1)
    api.PIF.set_disallow_unplug(eth1, True)
    assert refusal(lambda: api.PIF.unplug(eth1)) == ["PIF_DOES_NOT_ALLOW_UNPLUG", eth1]
    api.PIF.set_disallow_unplug(eth1, False)
    api.PIF.unplug(eth1)
    assert not api.PIF.get_currently_attached(eth1)


def test_a_forgotten_interface_is_found_by_a_scan_or_introduced(
    api: Any, host: str, eth1: str
) -> None:
    mac = api.PIF.get_MAC(eth1)
    api.PIF.forget(eth1)
    api.PIF.scan(host)
    found = pif_of(api, host, "eth1")
    assert found != eth1
    assert api.PIF.get_network(found) == network_named(api, "xenbr1")
    taken = refusal(lambda: api.PIF.introduce(host, mac, "eth1", True))
    assert taken == ["DUPLICATE_PIF_DEVICE_NAME", "eth1"]
    api.PIF.forget(found)
    assert api.PIF.get_MAC(api.PIF.introduce(host, "", "eth1", True)) == mac


def test_an_interface_that_is_not_in_the_machine_is_not_introduced(api: Any, host: str) -> None:
    error = refusal(lambda: api.PIF.introduce(host, "02:00:00:00:00:99", "eth9", True))
    code = "COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS"
    assert error == [code, "eth9", "02:00:00:00:00:99"]
    assert refusal(lambda: api.PIF.introduce(host, "zz", "eth9", True)) == ["MAC_INVALID", "zz"]


# --- addresses and properties


def test_a_static_address_has_to_be_one(api: Any, eth1: str) -> None:
    api.PIF.reconfigure_ip(eth1, "Static", "10.9.9.1", "255.255.255.0", "", "")
    assert api.PIF.get_IP(eth1) == "10.9.9.1"

    def wrong(*values: str) -> list[str]:
        return refusal(lambda: api.PIF.reconfigure_ip(eth1, "Static", *values))

    code = "INVALID_IP_ADDRESS_SPECIFIED"
    assert wrong("bad", "255.255.255.0", "", "") == [code, "IP"]
    assert wrong("10.9.9.1", "", "", "") == [code, "netmask"]
    assert wrong("10.9.9.1", "255.255.255.0", "x", "") == [code, "gateway"]


def test_only_known_properties_of_real_interfaces_can_be_set(api: Any, eth1: str) -> None:
    api.PIF.set_property(eth1, "gro", "off")
    assert api.PIF.get_properties(eth1) == {"gro": "off"}
    unknown = refusal(lambda: api.PIF.set_property(eth1, "gro", "maybe"))
    assert unknown == ["INVALID_VALUE", "properties", "gro = maybe"]
    vlan = api.VLAN.get_untagged_PIF(api.VLAN.create(eth1, "7", a_network(api)))
    refused = refusal(lambda: api.PIF.set_property(vlan, "gro", "on"))
    assert refused == ["CANNOT_CHANGE_PIF_PROPERTIES", vlan]


# --- bonds and tunnels


def test_a_bond_takes_address_management_and_vlans_from_its_members(
    api: Any, eth0: str, eth1: str
) -> None:
    network = a_network(api)
    vlan_network = a_network(api)
    api.VLAN.create(eth1, "7", vlan_network)
    address, mac = api.PIF.get_IP(eth0), api.PIF.get_MAC(eth0)
    bond = api.Bond.create(network, [eth1, eth0], "", "active-backup", {})
    master = api.PIF.get_record(api.Bond.get_master(bond))
    assert (master["device"], master["MAC"], master["IP"]) == ("bond0", mac, address)
    assert master["management"]
    assert master["currently_attached"]
    assert not api.PIF.get_management(eth0)
    assert set(api.Bond.get_slaves(bond)) == {eth0, eth1}
    assert api.Bond.get_primary_slave(bond) == eth0
    (vlan,) = api.VLAN.get_all_records().values()
    assert vlan["tagged_PIF"] == api.Bond.get_master(bond)
    assert api.network.get_PIFs(vlan_network) == [vlan["untagged_PIF"]]


def test_the_interfaces_of_a_hosts_own_vms_follow_into_a_bond_and_out_of_it(
    lab: RunningLab, api: Any, host: str, eth0: str, eth1: str
) -> None:
    below, above = network_named(api, "xenbr0"), a_network(api)
    here = api.VIF.create(vif_record(a_vm(lab, host), below))
    elsewhere = a_vm(lab, api.host.get_by_name_label("h2")[0])
    there = api.VIF.create(vif_record(elsewhere, below))
    anywhere = api.VIF.create(vif_record(a_vm(lab), below))
    bond = api.Bond.create(above, [eth0, eth1], "", "balance-slb", {})
    networks = [api.VIF.get_network(vif) for vif in (here, there, anywhere)]
    assert networks == [above, below, below]
    api.Bond.destroy(bond)
    assert api.VIF.get_network(here) == below


def test_dissolving_a_bond_gives_everything_back_to_the_primary(
    api: Any, eth0: str, eth1: str
) -> None:
    address = api.PIF.get_IP(eth0)
    bond = api.Bond.create(a_network(api), [eth0, eth1], "", "balance-slb", {})
    master = api.Bond.get_master(bond)
    api.VLAN.create(master, "7", a_network(api))
    api.Bond.destroy(bond)
    assert (api.PIF.get_IP(eth0), api.PIF.get_management(eth0)) == (address, True)
    assert api.PIF.get_bond_slave_of(eth0) == "OpaqueRef:NULL"
    assert [v["tagged_PIF"] for v in api.VLAN.get_all_records().values()] == [eth0]
    assert refusal(lambda: api.PIF.get_record(master)) == ["HANDLE_INVALID", "PIF", master]


def test_what_cannot_be_bonded_is_refused(api: Any, host: str, eth0: str, eth1: str) -> None:
    network = a_network(api)

    def wrong(*members: str, mac: str = "", **properties: str) -> list[str]:
        return refusal(
            lambda: api.Bond.create(network, list(members), mac, "balance-slb", properties)
        )

    other = pif_of(api, api.host.get_by_name_label("h2")[0], "eth1")
    vlan = api.VLAN.get_untagged_PIF(api.VLAN.create(eth1, "7", a_network(api)))
    assert wrong() == ["PIF_BOND_NEEDS_MORE_MEMBERS"]
    assert wrong(eth0, eth1, mac="zz") == ["MAC_INVALID", "zz"]
    assert wrong(eth0, eth1, nosuch="1") == ["INVALID_VALUE", "properties", "nosuch = 1"]
    assert wrong(eth1, other) == ["PIF_CANNOT_BOND_CROSS_HOST"]
    assert wrong(eth0, vlan) == ["PIF_VLAN_EXISTS", "eth1"]
    api.PIF.reconfigure_ip(eth1, "Static", "10.9.9.1", "255.255.255.0", "", "")
    assert wrong(eth0, eth1) == ["PIF_BOND_MORE_THAN_ONE_IP"]
    api.PIF.reconfigure_ip(eth1, "None", "", "", "", "")
    api.Bond.create(network, [eth0, eth1], "", "balance-slb", {})
    connected = refusal(lambda: api.Bond.create(network, [eth0], "", "balance-slb", {}))
    assert connected[:2] == ["NETWORK_ALREADY_CONNECTED", host]
    network = a_network(api)
    assert wrong(eth0, eth1) == ["PIF_ALREADY_BONDED", eth0]


def test_a_bonds_member_carries_nothing_by_itself(api: Any, eth0: str, eth1: str) -> None:
    api.Bond.create(a_network(api), [eth0, eth1], "", "lacp", {})
    assert refusal(lambda: api.PIF.plug(eth1)) == ["CANNOT_PLUG_BOND_SLAVE", eth1]
    assert refusal(lambda: api.PIF.forget(eth1)) == ["PIF_ALREADY_BONDED", eth1]
    network = a_network(api)
    refused = refusal(lambda: api.VLAN.create(eth1, "7", network))
    assert refused == ["CANNOT_ADD_VLAN_TO_BOND_SLAVE", eth1]


def test_a_bonds_mode_brings_its_own_properties(api: Any, eth0: str, eth1: str) -> None:
    bond = api.Bond.create(a_network(api), [eth0, eth1], "", "lacp", {"lacp-time": "fast"})
    assert api.Bond.get_properties(bond) == {
        "hashing_algorithm": "tcpudp_ports",
        "lacp-time": "fast",
        "lacp-fallback-ab": "true",
    }
    api.Bond.set_property(bond, "lacp-time", "slow")
    refused = refusal(lambda: api.Bond.set_property(bond, "lacp-time", "never"))
    assert refused == ["INVALID_VALUE", "properties", "lacp-time = never"]
    api.Bond.set_mode(bond, "active-backup")
    assert api.Bond.get_properties(bond) == {}


def test_a_tunnel_needs_open_vswitch_and_an_address_below_it(
    lab: RunningLab, api: Any, eth0: str, eth1: str
) -> None:
    def backend(kind: str) -> None:
        def write(inner: Any) -> None:
            for host in inner.db.all("host"):
                versions = {**host.software_version, "network_backend": kind}
                inner.db.update(host, software_version=versions)

        lab.do(write)

    backend("bridge")
    network = a_network(api)
    inactive = refusal(lambda: api.tunnel.create(eth0, network, "gre"))
    assert inactive == ["OPENVSWITCH_NOT_ACTIVE"]
    backend("openvswitch")
    tunnel = api.tunnel.create(eth0, network, "vxlan")
    access = api.PIF.get_record(api.tunnel.get_access_PIF(tunnel))
    assert (access["device"], access["currently_attached"]) == ("tunnel0", True)
    second = a_network(api)
    on_tunnel = api.tunnel.get_access_PIF(tunnel)
    refused = refusal(lambda: api.tunnel.create(on_tunnel, second, "gre"))
    assert refused == ["IS_TUNNEL_ACCESS_PIF", on_tunnel]
    bare = refusal(lambda: api.tunnel.create(eth1, second, "gre"))
    assert bare == ["TRANSPORT_PIF_NOT_CONFIGURED", eth1]
    api.tunnel.destroy(tunnel)
    assert api.network.get_PIFs(network) == []


def test_a_host_that_does_not_answer_is_named(lab: RunningLab, api: Any) -> None:
    down = api.host.get_by_name_label("h3")[0]
    eth1 = pif_of(api, down, "eth1")

    def cut_power(inner: Any) -> None:
        machine = inner.machine(down)
        machine.powered = False
        metrics = inner.db.get("host_metrics", machine.host.metrics)
        inner.db.update(metrics, live=False)

    lab.do(cut_power)
    assert refusal(lambda: api.PIF.plug(eth1)) == ["HOST_OFFLINE", down]
