from __future__ import annotations

from dataclasses import replace

from deploy.xenlab.agent import filters
from deploy.xenlab.agent.spec import Vif

LOCKED = Vif(0, "00:16:3e:00:00:01", "xenbr0", True, ("10.1.2.3",), ("fd00::3",), None)


def test_a_link_local_address_follows_from_the_mac() -> None:
    assert filters.link_local("00:16:3e:00:00:01") == "fe80::216:3eff:fe00:1"


def test_a_locked_interface_drops_by_default_and_accepts_its_own_addresses_only() -> None:
    rules = filters.rules_of("vif7.0", LOCKED)
    assert "hook ingress device vif7.0 priority 0; policy drop;" in rules
    assert "ether saddr != 00:16:3e:00:00:01 drop" in rules
    assert "ip saddr { 10.1.2.3 } accept" in rules
    assert "ip6 saddr { fe80::216:3eff:fe00:1, fd00::3 } accept" in rules


def test_an_interface_without_ipv4_addresses_may_send_none() -> None:
    rules = filters.rules_of("vif7.0", replace(LOCKED, ipv4=()))
    assert "ether type ip " not in rules
    assert "arp" not in rules


def test_a_disabled_interface_accepts_nothing() -> None:
    rules = filters.rules_of("vif7.0", replace(LOCKED, disabled=True))
    assert "policy drop;" in rules
    assert "accept" not in rules


def test_an_unlocked_interface_has_no_rules() -> None:
    rules = filters.rules_of("vif7.0", replace(LOCKED, locked=False))
    assert rules == filters.clearing("vif7.0")


def test_rules_replace_those_that_are_there_in_one_step() -> None:
    assert filters.rules_of("vif7.0", LOCKED).startswith(
        "add table netdev lock_vif7_0\ndelete table netdev lock_vif7_0\ntable netdev lock_vif7_0 {"
    )
