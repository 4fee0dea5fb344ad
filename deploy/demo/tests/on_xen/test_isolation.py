"""Two tenants' containers on one host, one of them hostile: root of its own machine, sending what it likes.

All of it twice: in VMs that booted for them, and in VMs that had booted before.
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.tests.on_xen.site import Site
from deploy.demo.tests.visitor import wait_until
from deploy.xenlab.machine import Machine
from deploy.xenlab.plan import GATEWAY

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1800)]

SPY = (Path(__file__).parent / "spy.py").read_text(encoding="utf-8")
LISTENS = 8.0
"""Seconds that the victim listens, while all is sent again and again."""
_ETH_P_ALL = 3


@dataclass(frozen=True)
class Party:
    """A container with the spy's program in it."""

    slug: str
    uuid: str
    ip: str
    mac: str
    tag: int

    @property
    def gateway(self) -> str:
        return str(IPv4Address(int(IPv4Address(self.ip)) & ~0xFF | 1))


@dataclass(frozen=True)
class Street:
    """Neighbours on one host."""

    site: Site
    spy: Party
    victim: Party
    machine: Machine

    def ask(self, party: Party, path: str, body: str = "") -> str:
        return self.site.http(party.ip, path, body.encode(), seconds=60).decode()

    def tries(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """What the spy meets at each address and port."""
        body = "\n".join(f"{address} {port}" for address, port in places)
        return dict(zip(places, self.ask(self.spy, "/try", body).splitlines(), strict=True))


@pytest.fixture(scope="module", params=["cold", "warm"])
def street(xen_site: Site, request: pytest.FixtureRequest) -> Iterator[Street]:
    site = xen_site
    emptier = _emptiest(site)
    others = [host["uuid"] for name, host in site.estate.hosts().items() if name != emptier]
    for host in others:
        site.estate.operator.post(f"hosts/{host}/cordon")
    blanks = site.keep_blanks(2) if request.param == "warm" else set()
    wish: dict[str, Any] = {"command": ["-u", "-c", SPY]}
    made = {
        slug: site.deploy(slug, "neighbour", "python:root", **wish) for slug in ("harbor", "mill")
    }
    for slug, container in made.items():
        site.answers(site.until(slug, container, "running")["ip"])
    site.keep_blanks(0)
    for host in others:
        site.estate.operator.post(f"hosts/{host}/uncordon")
    vms = {site.vm_of(container).uuid for container in made.values()}
    assert vms == (blanks or vms)
    machines = [site.machine_of(container) for container in made.values()]
    assert len({machine.host.name for machine in machines}) == 1
    harbor, mill = (_party(site, slug, container) for slug, container in made.items())
    yield Street(site, harbor, mill, machines[0])
    for slug, container in made.items():
        site.remove(slug, container)


def test_the_spy_is_root_of_its_own_machine(street: Street) -> None:
    assert street.site.http(street.spy.ip) == b"0"


def test_it_reaches_itself_and_no_neighbour(street: Street) -> None:
    own, other = (street.spy.ip, 80), (street.victim.ip, 80)
    met = street.tries([own, other])
    assert met[own] == "open"
    assert met[other] != "open"


def test_it_reaches_nothing_that_listens_for_hosts_and_their_pool(street: Street) -> None:
    places = [(address, port) for address in _ours(street) for port in _ports(street.site)]
    met = street.tries(places)
    assert len(met) >= 10
    assert {place for place, answer in met.items() if answer == "open"} == set()


def test_a_true_frame_leaves_the_host(street: Street) -> None:
    """What the next tests count on: frames are seen where they look."""
    with Capture(street) as capture:
        _send(street, [_udp(street.spy, b"true-frame")])
        capture.until(b"true-frame")


FORGED: dict[str, Callable[[Street, bytes], bytes]] = {
    "another's MAC address": lambda s, mark: _udp(s.spy, mark, mac=s.victim.mac),
    "a MAC address of nobody's": lambda s, mark: _udp(s.spy, mark, mac="02:00:00:00:00:01"),
    "another's IP address": lambda s, mark: _udp(s.spy, mark, ip=s.victim.ip),
    "its gateway's IP address": lambda s, mark: _udp(s.spy, mark, ip=s.spy.gateway),
    "the hosts' IP address": lambda s, mark: _udp(s.spy, mark, ip=GATEWAY),
    "ARP for another's address": lambda s, mark: _arp(s.spy, s.victim.ip, mark),
    "ARP for its gateway's address": lambda s, mark: _arp(s.spy, s.spy.gateway, mark),
    "another tenant's VLAN tag": lambda s, mark: _tagged(_udp(s.spy, mark), s.victim.tag),
    "two VLAN tags": lambda s, mark: _tagged(_tagged(_udp(s.spy, mark), s.victim.tag), s.spy.tag),
    "a protocol of its own": lambda s, mark: _ethernet(s.spy.mac, 0x88B5, mark),
}


@dataclass(frozen=True)
class Forgeries:
    """What became of frames that were sent forged, among true ones."""

    left: dict[str, bool]
    """By what was forged: did it leave the host?"""
    heard: str
    """How many of all frames the neighbour heard."""


@pytest.fixture(scope="module")
def forgeries(street: Street) -> Forgeries:
    heard: list[str] = []
    listening = threading.Thread(
        # In hex, since the question itself goes by the cable that is looked at.
        target=lambda: heard.append(
            street.ask(street.victim, "/hear", f"{LISTENS:.0f} {_COMMON.hex()}")
        )
    )
    with Capture(street) as capture:
        listening.start()
        while listening.is_alive():
            for forged, make in FORGED.items():
                _send(street, [make(street, _mark(forged))] * 3)
            _send(street, [_udp(street.spy, _COMMON + b"true")])
        # By the same way and after all the others.
        _send(street, [_udp(street.spy, b"after-all")])
        capture.until(b"after-all")
        assert capture.has(_COMMON + b"true")
        return Forgeries({forged: capture.has(_mark(forged)) for forged in FORGED}, *heard)


_COMMON = b"isolation-"


def _mark(forged: str) -> bytes:
    """No other's beginning."""
    return _COMMON + b"%02d." % list(FORGED).index(forged)


@pytest.mark.parametrize("forged", FORGED)
def test_nothing_leaves_the_host_with(forgeries: Forgeries, forged: str) -> None:
    assert not forgeries.left[forged]


def test_a_neighbour_hears_nothing_of_what_others_send(forgeries: Forgeries) -> None:
    """Neither forged nor true broadcasts."""
    assert forgeries.heard == "0"


# -------------------------------------------------------------------------------------------------- where


def _emptiest(site: Site) -> str:
    """The host with the fewest VMs."""
    vms = [vm.host for vm in site.estate.vms().values()]
    return min(site.estate.hosts(), key=vms.count)


def _party(site: Site, slug: str, container: str) -> Party:
    seen = site.seen(slug, container)
    nic = site.nic_of(container)
    return Party(slug, container, seen["ip"], nic.mac, nic.tag)


def _ours(street: Street) -> list[str]:
    """Addresses at which something of the platform could listen."""
    hosts = [machine.host.address for machine in street.site.lab.machines]
    return [GATEWAY, *hosts, street.spy.gateway, street.victim.gateway]


def _ports(site: Site) -> list[int]:
    """What listens in the hosts' network, and what usually would."""
    shown = subprocess.run(
        ["ip", "netns", "exec", site.plan.namespace, "ss", "-Hltn"],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout
    there = {int(line.split()[3].rpartition(":")[2]) for line in shown.splitlines()}
    assert there
    return sorted({22, 80, 443, 7700, 7701, *there})


# -------------------------------------------------------------------------------------------------- frames


def _send(street: Street, frames: list[bytes]) -> None:
    assert street.ask(street.spy, "/send", "\n".join(frame.hex() for frame in frames)) == "sent"


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ethernet(mac: str, kind: int, body: bytes) -> bytes:
    return b"\xff" * 6 + _mac(mac) + struct.pack("!H", kind) + body.ljust(46, b"\0")


def _udp(party: Party, body: bytes, *, mac: str = "", ip: str = "") -> bytes:
    """A broadcast to UDP port 9 (RFC 768, 791), without UDP's optional check."""
    udp = struct.pack("!4H", 9, 9, 8 + 16, 0) + body.ljust(16, b"\0")
    source = IPv4Address(ip or party.ip).packed
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, b"\xff" * 4
    )
    total = sum(struct.unpack("!10H", head))
    check = ~(total + (total >> 16)) & 0xFFFF
    return _ethernet(
        mac or party.mac, 0x0800, head[:10] + struct.pack("!H", check) + head[12:] + udp
    )


def _arp(party: Party, claimed: str, mark: bytes) -> bytes:
    """A gratuitous answer (RFC 826), with the mark behind it."""
    own, address = _mac(party.mac), IPv4Address(claimed).packed
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + own + address + b"\xff" * 6 + address
    return _ethernet(party.mac, 0x0806, body + mark)


def _tagged(frame: bytes, tag: int) -> bytes:
    return frame[:12] + struct.pack("!HH", 0x8100, tag) + frame[12:]


class Capture:
    """Everything that leaves a host by its cable while the block runs."""

    def __init__(self, street: Street) -> None:
        self._frames: list[bytes] = []
        self._ends = threading.Event()
        with street.site.on_their_networks():
            self._line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._line.bind((street.machine.host.tap, _ETH_P_ALL))
        self._thread = threading.Thread(target=self._listen, name="capture")

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(10)
        self._line.close()

    def has(self, mark: bytes) -> bool:
        """Did a frame with it leave until now?"""
        return any(mark in frame for frame in list(self._frames))

    def until(self, mark: bytes) -> None:
        """Wait for a frame with it."""
        wait_until(lambda: self.has(mark), f"a frame with {mark!r} leaves the host", seconds=60)

    def _listen(self) -> None:
        while not self._ends.is_set():
            if select.select([self._line], [], [], 0.1)[0]:
                self._frames.append(self._line.recv(65536))
