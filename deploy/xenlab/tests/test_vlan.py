"""This machine on tenants' VLANs: what it sends is tagged, and only its own VLANs' frames reach it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from deploy.xenlab.namespace import inside, lower_network, path_of
from deploy.xenlab.plan import BRIDGE, LabPlan, plan
from deploy.xenlab.reach import Forwarder
from deploy.xenlab.vlan import Edge

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and /dev/net/tun"
)

GATEWAY = IPv4Interface("10.99.0.1/24")
GUEST = b"\x02\x00\x00\x00\x00\x02"


def ip(lab: LabPlan, *words: str) -> None:
    subprocess.run(["ip", "-n", lab.namespace, *words], check=True, timeout=15)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabPlan]:
    """A lab's network without hosts; "guest" is a port on its bridge."""
    made = plan(tmp_path, name=f"vlan-{os.getpid()}", hosts=1)
    subprocess.run(["ip", "netns", "add", made.namespace], check=True, timeout=15)
    ip(made, "link", "set", "lo", "up")
    ip(made, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    ip(made, "link", "set", BRIDGE, "up")
    ip(made, "link", "add", "guest", "type", "veth", "peer", "name", "guest-port")
    ip(made, "link", "set", "guest-port", "master", BRIDGE, "up")
    ip(made, "link", "set", "guest", "up")
    yield made
    lower_network(made)
    assert not path_of(made.namespace).exists()


@pytest.fixture
def edge(lab: LabPlan) -> Iterator[Edge]:
    made = Edge(lab)
    made.join(7, GATEWAY)
    made.join(7, GATEWAY)  # once or twice is the same
    yield made
    made.close()


@pytest.fixture
def guest(lab: LabPlan) -> Iterator[socket.socket]:
    """The guest's end of the trunk, as raw frames."""
    with inside(lab.namespace):
        line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        line.bind(("guest", 0x0003))
    line.setsockopt(263, 8, 1)  # PACKET_AUXDATA: where the kernel tells the tag that it took off
    line.settimeout(10)
    with line:
        yield line


def tag_and_frame(guest: socket.socket) -> tuple[int, bytes]:
    """Of the next ARP request, with the tag it came with; 0 for none."""
    while True:
        frame, said, *_ = guest.recvmsg(2048, socket.CMSG_SPACE(20))
        status, *_, tci, _ = struct.unpack("<IIIHHHH", said[0][2][:20])
        if frame[12:14] == b"\x08\x06":
            return (tci & 0xFFF if status & 16 else 0), frame


def answer(request: bytes) -> bytes:
    """The ARP answer of the guest."""
    asker = request[22:28]
    head = b"\x00\x01\x08\x00\x06\x04\x00\x02"
    return head + GUEST + request[38:42] + asker + request[28:32]


def ask(lab: LabPlan) -> socket.socket:
    """Something sent to the guest's address, which must be asked for."""
    with inside(lab.namespace):
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.settimeout(10)
    line.sendto(b"knock", ("10.99.0.2", 9))
    return line


def neighbours(lab: LabPlan) -> str:
    shown = subprocess.run(
        ["ip", "-n", lab.namespace, "neigh"], check=True, capture_output=True, text=True, timeout=15
    )
    return shown.stdout


def send(guest: socket.socket, request: bytes, tag: int) -> None:
    tagged = request[6:12] + GUEST + b"\x81\x00" + struct.pack("!H", tag) + b"\x08\x06"
    guest.send(tagged + answer(request))


def test_what_goes_out_has_the_tag_and_what_comes_in_with_it_arrives(
    lab: LabPlan, edge: Edge, guest: socket.socket
) -> None:
    with ask(lab):
        tag, request = tag_and_frame(guest)
        assert tag == 7
        send(guest, request, 7)
        while True:  # the frame that waited for the answer
            frame = guest.recv(2048)
            if frame[:6] == GUEST:
                break
    assert b"knock" in frame
    assert "02:00:00:00:00:02" in neighbours(lab)


def test_an_answer_with_anothers_tag_does_not_arrive(
    lab: LabPlan, edge: Edge, guest: socket.socket
) -> None:
    with ask(lab):
        _, request = tag_and_frame(guest)
        send(guest, request, 8)
        _, again = tag_and_frame(guest)  # it asks once more
        assert again[38:42] == request[38:42]
    assert "02:00:00:00:00:02" not in neighbours(lab)


def test_a_port_of_loopback_leads_into_the_network(lab: LabPlan, edge: Edge) -> None:
    with inside(lab.namespace):
        served = socket.create_server((str(GATEWAY.ip), 80))

    async def through() -> bytes:
        server = await Forwarder(lab, str(GATEWAY.ip), 80).listen()
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line, _ = await asyncio.to_thread(served.accept)
        writer.write(b"ask")
        writer.write_eof()
        assert await asyncio.to_thread(line.recv, 16) == b"ask"
        line.sendall(b"answer")
        line.close()
        heard = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        server.close()
        return heard

    with served:
        assert asyncio.run(through()) == b"answer"
