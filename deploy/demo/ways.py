"""Ways from this machine to what containers serve: a port of loopback for each container's port 80.

A container at the n-th address of the range that tenants' networks are cut from is at port 20000 + n.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Interface
from typing import NoReturn

from django.conf import settings
from django.db import close_old_connections

from deploy.xenlab.plan import LabPlan
from deploy.xenlab.reach import Forwarder
from deploy.xenlab.vlan import Edge
from hosting.compute.models import Instance
from hosting.networks.addresses import gateway_of
from hosting.networks.models import Segment

HTTP = 80
FIRST, LAST = 20_000, 65_535
LOOK_EVERY = 1.0


def port_of(address: str) -> int | None:
    """Where a container of that address is reached; None when it has no port."""
    port = FIRST + int(IPv4Address(address)) - int(settings.NETWORK_RANGE.network_address)
    return port if FIRST <= port <= LAST else None


def keep_open(lab: LabPlan) -> NoReturn:
    """Open ways as containers come; a way to one that is gone leads nowhere."""
    asyncio.run(_keep_open(lab))
    raise AssertionError


async def _keep_open(lab: LabPlan) -> None:
    edge = Edge(lab)
    open_ways: dict[str, asyncio.Server] = {}
    while True:
        segments, addresses = await asyncio.to_thread(_look)
        for tag, gateway in segments.items():
            await asyncio.to_thread(edge.join, tag, gateway)
        for address in addresses - open_ways.keys():
            port = port_of(address)
            if port is not None:
                open_ways[address] = await Forwarder(lab, address, HTTP).listen(port)
        await asyncio.sleep(LOOK_EVERY)


def _look() -> tuple[dict[int, IPv4Interface], set[str]]:
    close_old_connections()
    return _what_there_is()


def _what_there_is() -> tuple[dict[int, IPv4Interface], set[str]]:
    """Tags with their networks' gateways, and the addresses of what lives."""
    segments = Segment.objects.all().living().select_related("network")
    gateways = {one.tag: _gateway(one) for one in segments}
    living = Instance.objects.all().living().exclude(ip=None)
    return gateways, {str(ip) for ip in living.values_list("ip", flat=True)}


def _gateway(segment: Segment) -> IPv4Interface:
    subnet = segment.network.subnet
    return IPv4Interface((gateway_of(subnet), subnet.prefixlen))
