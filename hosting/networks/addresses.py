"""Which subnet, address, tag and MAC is next. Pure: what is taken comes in, what is free goes out."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

# The subnet's own address, its gateway's and, at its end, its broadcast address.
_KEPT_FIRST, _KEPT_LAST = 2, 1


def first_free(taken: Iterable[int], first: int, last: int) -> int | None:
    """The least number from `first` to `last`, both counted, that is not in `taken`."""
    held = set(taken)
    return next((number for number in range(first, last + 1) if number not in held), None)


def first_free_subnet(
    taken: Iterable[IPv4Network], within: IPv4Network, prefix: int
) -> IPv4Network | None:
    """The lowest subnet of that length in `within` that overlaps none of `taken`, of whatever length."""
    size = 2 ** (32 - prefix)
    start = int(within.network_address)
    for other in sorted(taken):
        begin, after = int(other.network_address), int(other.broadcast_address) + 1
        if begin >= start + size:
            break
        if after > start:
            start = -(-after // size) * size
    subnet = IPv4Network((start, prefix))
    return subnet if subnet.subnet_of(within) else None


def gateway_of(subnet: IPv4Network) -> IPv4Address:
    """Its first address: kept for what will route for it."""
    return subnet.network_address + 1


def room_in(subnet: IPv4Network) -> int:
    """How many addresses instances may have in it."""
    return subnet.num_addresses - _KEPT_FIRST - _KEPT_LAST


def first_free_address(taken: Iterable[IPv4Address], subnet: IPv4Network) -> IPv4Address | None:
    """The lowest one that an instance may have; None when all are taken."""
    base = int(subnet.network_address)
    offsets = (int(address) - base for address in taken)
    last = subnet.num_addresses - _KEPT_LAST - 1
    free = first_free(offsets, _KEPT_FIRST, last)
    return None if free is None else subnet.network_address + free


def mac_of(owner: UUID) -> str:
    """The MAC of an instance's or a blank's interface: locally administered, the rest from its (random) uuid.

    Source of the two bits: IEEE 802-2014, 8.2. 46 bits of the uuid go in, so two alike on one network are
    not to be expected; the database would refuse the second.
    """
    first, *rest = owner.bytes[:6]
    return ":".join(f"{byte:02x}" for byte in (first & 0b1111_1100 | 0b10, *rest))
