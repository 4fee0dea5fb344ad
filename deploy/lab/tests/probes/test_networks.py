"""Networks, VLANs, bonds and interfaces of hosts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from deploy.lab.tests.probes.scenario import Look, Played, Pool, Step, each_line, play


def network(label: str) -> str:
    return (
        f"network.create({{'name_label': '{label}', 'name_description': '', 'MTU': '1500', "
        "'other_config': {}, 'tags': []},)"
    )


def vif(device: str, net: str) -> str:
    return (
        f"VIF.create({{'VM': '<a>', 'network': '<{net}>', 'device': '{device}', 'MAC': '', "
        "'MTU': '1500', 'other_config': {}, 'qos_algorithm_type': '', 'qos_algorithm_params': {}},)"
    )


def give_a_two_interfaces(pool: Pool) -> None:
    pool.make_whole("a")
    pool.api.VM.start_on(pool["a"], pool["h1"], False, False)
    pool.bind("vif1", pool.call(vif("1", "xenbr0")))
    pool.api.VIF.plug(pool["vif1"])


def has_a_numbered_bridge(pool: Pool) -> bool:
    return re.fullmatch(r"xapi\d+", pool.api.network.get_bridge(pool["n2"])) is not None


def another(name: str) -> Callable[[Pool], None]:
    return lambda pool: pool.bind(name, pool.call(network(name)))


STEPS: list[Step] = [
    give_a_two_interfaces,
    f"`{network('n2')}` → <n2>",
    Look("bridge xapi1", has_a_numbered_bridge, True),
    "`VLAN.create('<h1-eth1>', '4095', '<n2>')` → **['VLAN_TAG_INVALID', '4095']**",
    "`pool.create_VLAN_from_PIF('<h1-eth1>', '<n2>', '77')` → ['<pif1>', '<pif2>']",
    another("n3"),
    "`VLAN.create('<h1-eth1>', '77', '<n3>')` [same tag] → **['PIF_VLAN_EXISTS', 'eth1']**",
    "`network.destroy('<n2>',)` [has PIFs] → **['NETWORK_CONTAINS_PIF', '<pif2>', '<pif1>']**",
    f"`{vif('2', 'n3')}` → <vif2>",
    "`network.destroy('<n3>',)` [has a VIF] → ",
    "`VIF.plug('<vif2>',)` → **['HANDLE_INVALID', 'VIF', '<vif2>']**",
    "`network.destroy('<xenbr0>',)` → **['NETWORK_CONTAINS_VIF', '<vif1>', '<a-vif0>']**",
    "`PIF.unplug('<h1-eth0>',)` [management] → **['PIF_IS_MANAGEMENT_INTERFACE', '<h1-eth0>']**",
    "`PIF.forget('<h1-eth0>',)` → **['PIF_IS_MANAGEMENT_INTERFACE', '<h1-eth0>']**",
    "`PIF.reconfigure_ip('<h1-eth1>', 'Static', '10.9.9.1', '255.255.255.0', '', '')` → ",
    "`PIF.reconfigure_ip('<h1-eth1>', 'Static', 'bad', '255.255.255.0', '', '')` → **['INVALID_IP_ADDRESS_SPECIFIED', 'IP']**",
    "`Bond.create('<n3>', ['<h1-eth1>'], '', 'balance-slb', {})` [one member] → **['HANDLE_INVALID', 'network', '<n3>']**",
    another("bondnet"),
    "`Bond.create('<bondnet>', ['<h1-eth0>', '<h1-eth1>'], '', 'active-backup', {})` → **['PIF_BOND_MORE_THAN_ONE_IP']**",
]


@pytest.fixture(scope="module")
def played(make_pool: Callable[..., Pool]) -> Played:
    return play(make_pool(2), STEPS)


@each_line(STEPS)
def test_networks_answer_as_probed(played: Played, number: int) -> None:
    answer = played[number]
    assert answer.given == answer.said
