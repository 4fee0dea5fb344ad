import socket
import threading

import pytest

from worker.images.errors import RegistryNotAllowed, RegistryUnreachable
from worker.images.reach import Reach

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "ff0e::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:db8::1",
]


def reach(*addresses: str, allowed: list[str] | None = None) -> Reach:
    rules = Reach.parse(allowed=allowed or [])
    return Reach(rules.allowed, lookup=lambda host, port: list(addresses))


@pytest.mark.parametrize("address", PRIVATE)
def test_it_leads_to_no_private_address(address: str) -> None:
    with pytest.raises(RegistryNotAllowed):
        reach(address).addresses("r.example", 443, 1)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_it_leads_to_public_addresses(address: str) -> None:
    assert reach(address).addresses("r.example", 443, 1) == [address]


def test_an_allowed_range_is_reached_and_its_neighbour_is_not() -> None:
    rules = reach("10.1.2.3", "10.2.2.3", "::ffff:10.1.0.1", allowed=["10.1.0.0/16"])
    assert rules.addresses("r.example", 443, 1) == ["10.1.2.3", "::ffff:10.1.0.1"]


def test_of_mixed_addresses_only_the_public_ones_are_used() -> None:
    assert reach("127.0.0.1", "1.1.1.1").addresses("r.example", 443, 1) == ["1.1.1.1"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "::1"]
)
def test_this_machine_is_not_reached_however_it_is_written(host: str) -> None:
    with pytest.raises((RegistryNotAllowed, RegistryUnreachable)):
        Reach().addresses(host, 443, 5)


def test_a_name_that_is_none_is_unreachable() -> None:
    def fail(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with pytest.raises(RegistryUnreachable):
        Reach(lookup=fail).addresses("r.example", 443, 1)


def test_a_label_that_no_name_may_have_is_unreachable() -> None:
    with pytest.raises(RegistryUnreachable):
        Reach().addresses("a" * 70 + ".example", 443, 5)


def test_a_look_up_that_does_not_end_is_given_up() -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        release.wait(30)
        return []

    with pytest.raises(RegistryUnreachable):
        Reach(lookup=hang).addresses("r.example", 443, 0.01)
    release.set()


def test_a_registry_speaks_tls_unless_the_operator_says_otherwise() -> None:
    rules = Reach.parse(plain_http=["lab:5000", "127.0.0.1"])
    assert rules.scheme_of("r.example") == "https"
    assert rules.scheme_of("lab:5000") == "http"
    assert rules.scheme_of("lab:5001") == "https"
    assert rules.scheme_of("127.0.0.1:1234") == "http"
