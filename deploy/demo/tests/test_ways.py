"""Which port leads to which container, on real Xen."""

from ipaddress import IPv4Interface, IPv4Network
from typing import Any

import pytest

from deploy.demo.ways import _what_there_is, port_of
from hosting.compute.tests.makers import make_instance
from hosting.fleet.tests.makers import make_host
from hosting.networks.models import Network, Segment


def test_a_containers_port_follows_from_its_address(settings: Any) -> None:
    settings.NETWORK_RANGE = IPv4Network("10.64.0.0/10")
    assert port_of("10.64.0.2") == 20_002
    assert port_of("10.64.1.2") == 20_258


def test_an_address_too_far_up_has_no_port(settings: Any) -> None:
    settings.NETWORK_RANGE = IPv4Network("10.64.0.0/10")
    assert port_of("10.64.255.2") is None
    assert port_of("10.63.0.2") is None


@pytest.mark.django_db
def test_ways_are_kept_to_what_lives_and_networks_are_joined_as_their_gateway() -> None:
    instance = make_instance()
    host = make_host()
    network = Network.objects.create(
        tenant=instance.container.tenant, subnet=IPv4Network("10.64.3.0/24")
    )
    Segment.objects.create(network=network, pool=host.pool, device="eth0", tag=1003)
    gateways, addresses = _what_there_is()
    assert gateways == {1003: IPv4Interface("10.64.3.1/24")}
    assert addresses == set()
