"""Which subnet, address, tag and MAC is next."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from hosting.networks.addresses import (
    first_free,
    first_free_address,
    first_free_subnet,
    gateway_of,
    mac_of,
    room_in,
)

RANGE = IPv4Network("10.64.0.0/22")
SUBNET = IPv4Network("10.64.3.0/29")


def test_the_lowest_number_that_is_free_is_next() -> None:
    assert first_free([], 3, 5) == 3
    assert first_free([3, 5, 9], 3, 5) == 4
    assert first_free([3, 4, 5], 3, 5) is None


def test_subnets_are_cut_from_the_range_one_after_the_other() -> None:
    taken: list[IPv4Network] = []
    while (subnet := first_free_subnet(taken, RANGE, 24)) is not None:
        taken.append(subnet)
    assert taken == list(RANGE.subnets(new_prefix=24))


def test_a_subnet_that_was_given_back_is_next() -> None:
    first, second, third, _ = RANGE.subnets(new_prefix=24)
    assert first_free_subnet([third, first], RANGE, 24) == second


@given(
    st.lists(st.tuples(st.integers(0, 1023), st.integers(22, 30)), max_size=12),
    st.integers(22, 30),
)
def test_a_subnet_overlaps_none_whatever_their_sizes(
    drawn: list[tuple[int, int]], prefix: int
) -> None:
    base = int(RANGE.network_address)
    taken = {IPv4Network((base + offset, length), strict=False) for offset, length in drawn}
    free = [
        subnet
        for subnet in RANGE.subnets(new_prefix=prefix)
        if not any(subnet.overlaps(other) for other in taken)
    ]
    found = first_free_subnet(taken, RANGE, prefix)
    assert found == (free[0] if free else None)


def test_subnets_beside_the_range_do_not_matter() -> None:
    beside = [IPv4Network("10.0.0.0/24"), IPv4Network("192.168.0.0/24")]
    assert first_free_subnet(beside, RANGE, 24) == IPv4Network("10.64.0.0/24")


def test_of_a_subnet_its_own_its_gateways_and_its_broadcast_address_are_nobodys() -> None:
    taken: list[IPv4Address] = []
    while (address := first_free_address(taken, SUBNET)) is not None:
        taken.append(address)
    assert [str(address) for address in taken] == [f"10.64.3.{n}" for n in range(2, 7)]
    assert gateway_of(SUBNET) == IPv4Address("10.64.3.1")
    assert room_in(SUBNET) == len(taken)


def test_a_mac_is_always_the_same_and_locally_administered() -> None:
    assert mac_of(UUID(int=0xFF << 120)) == "fe:00:00:00:00:00"
    one = uuid4()
    assert mac_of(one) == mac_of(one) != mac_of(uuid4())


@given(st.uuids())
def test_a_mac_names_one_card_and_no_maker(instance: UUID) -> None:
    first = int(mac_of(instance)[:2], 16)
    assert first & 0b11 == 0b10
