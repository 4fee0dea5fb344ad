"""Real Xen on emulated machines. Everything is judged by success within wide limits, never by speed."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from deploy.xenlab import namespace
from deploy.xenlab.client import Agent
from deploy.xenlab.commands import run
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.lab import XenLab, await_agent
from deploy.xenlab.plan import plan
from deploy.xenlab.tests.domains import (
    LIMIT,
    Guest,
    Terminal,
    attach,
    disk_server,
    runs,
    wait_until,
)

# Of memory: what the hypervisor keeps for itself once it has had a domain, a few pages.
XENS_OWN = 1 << 20

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]


def test_a_domain_moves_live_with_its_disk_and_keeps_its_boot_id(
    xen_lab: XenLab, tmp_path: Path
) -> None:
    here, there = xen_lab.plan.hosts
    guest = Guest(xen_lab, 101, disk="root")
    disk = tmp_path / "disk"
    disk.write_bytes(b"the test's disk!".ljust(1 << 20, b"\0"))
    with (
        disk_server(xen_lab, disk, "root"),
        Agent(xen_lab.plan, here, timeout=LIMIT) as source,
        Agent(xen_lab.plan, there, timeout=LIMIT) as target,
    ):
        source.call("hello")
        attach(source, "root")
        attach(target, "root")
        guest.create(source)
        with Terminal(xen_lab, here, guest.uuid) as terminal:
            assert "GUEST-DISK the test's disk!" in terminal.wait_for("GUEST-UP")
        before = guest.boot_id()
        target.call("receive", **guest.devices)
        source.call("migrate", uuid=guest.uuid, to=there.address)
        assert guest.boot_id() == before
        assert source.call("hello")["domains"] == []
        assert [one["state"] for one in target.call("hello")["domains"]] == ["running"]
        ended = {"event": "domain", "uuid": guest.uuid, "state": "ended", "reason": "migrated"}
        assert ended in source.events
        with Terminal(xen_lab, there, guest.uuid) as terminal:
            terminal.type("after the move")
            terminal.wait_for("GUEST-HEARD after the move")

        target.call("save", uuid=guest.uuid, path="state")
        target.call("restore", **guest.devices, path="state", paused=False)
        assert guest.boot_id() == before
        with pytest.raises(XenlabError) as refused:
            target.call("disk_detach", vdi="root")
        assert refused.value.code == "disk_in_use"
        target.call("destroy", uuid=guest.uuid)
        for agent in (source, target):
            agent.call("disk_detach", vdi="root")
            assert agent.call("hello")["disks"] == []


def test_devices_plugged_into_a_paused_domain_are_there_when_it_runs_and_move_with_it(
    xen_lab: XenLab, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"content of disk!".ljust(1 << 20, b"\0"))
    guest = Guest(xen_lab, 106, disk="plugged")
    devices = guest.devices
    with disk_server(xen_lab, image, "plugged"), Agents(xen_lab) as (source, target):
        guest.create(source, disks=[], vifs=[], paused=True)
        attach(source, "plugged")
        for _ in range(2):
            source.call("plug", **devices)
            with pytest.raises(XenlabError) as refused:
                source.call("disk_detach", vdi="plugged")
            assert refused.value.code == "disk_in_use"
            source.call("unplug", uuid=guest.uuid, disks=[0], vifs=[0])
        source.call("plug", **devices)
        source.call("unpause", uuid=guest.uuid)
        with Terminal(xen_lab, xen_lab.plan.hosts[0], guest.uuid) as terminal:
            assert "GUEST-DISK content of disk!" in terminal.wait_for("GUEST-UP")
        before = guest.boot_id()
        attach(target, "plugged")
        target.call("receive", **devices)
        source.call("migrate", uuid=guest.uuid, to=xen_lab.plan.hosts[1].address)
        assert guest.boot_id() == before
        target.call("destroy", uuid=guest.uuid)
        for agent in (source, target):
            agent.call("disk_detach", vdi="plugged")
            assert agent.call("hello")["domains"] == []


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_domain_sleeps_in_a_file_wakes_as_itself_and_leaves_nothing(
    xen_lab: XenLab, tmp_path: Path, kind: str
) -> None:
    host = xen_lab.plan.hosts[0]
    guest = Guest(xen_lab, 107, disk="kept")
    disk = tmp_path / "disk"
    disk.write_bytes(b"the test's disk!".ljust(1 << 20, b"\0"))
    with (
        disk_server(xen_lab, disk, "kept"),
        Agent(xen_lab.plan, host, timeout=LIMIT) as agent,
    ):
        free = agent.call("hello")["memory_free"]
        attach(agent, "kept")
        guest.create(agent, kind)
        with Terminal(xen_lab, host, guest.uuid) as terminal:
            assert "GUEST-DISK the test's disk!" in terminal.wait_for("GUEST-UP")
        before = guest.boot_id()
        assert agent.call("xenstore_read", uuid=guest.uuid, path="vm-data/told")["value"]
        agent.call("save", uuid=guest.uuid, path="asleep")
        agent.call("restore", **guest.devices, path="asleep", paused=False)
        assert guest.boot_id() == before
        with Terminal(xen_lab, host, guest.uuid) as terminal:
            terminal.type("write")
            terminal.wait_for("GUEST-WROTE 0")
        assert disk.read_bytes()[4096:].startswith(b"wrote")
        agent.call("destroy", uuid=guest.uuid)
        agent.call("disk_detach", vdi="kept")
        wait_until(lambda: agent.call("hello")["memory_free"] > free - XENS_OWN)


def test_a_domain_that_cannot_be_made_says_why_and_leaves_nothing(xen_lab: XenLab) -> None:
    guest = Guest(xen_lab, 108)
    with Agent(xen_lab.plan, xen_lab.plan.hosts[0], timeout=LIMIT) as agent:
        free = agent.call("hello")["memory_free"]
        impossible: list[tuple[dict[str, Any], str]] = [
            ({"memory_mib": 1 << 18}, "Cannot allocate memory"),
            ({"kernel": "/boot/guest/none"}, "/boot/guest/none"),
        ]
        for changes, why in impossible:
            with pytest.raises(XenlabError, match=why) as refused:
                guest.create(agent, "pv", **changes)
            assert refused.value.code == "not_made"
        assert agent.call("hello")["domains"] == []
        wait_until(lambda: agent.call("hello")["memory_free"] > free - XENS_OWN)
        guest.create(agent, "pv")
        agent.call("destroy", uuid=guest.uuid)


def test_values_pass_between_guest_and_host_also_through_an_agent_that_starts_anew(
    xen_lab: XenLab,
) -> None:
    host = xen_lab.plan.hosts[0]
    guest = Guest(xen_lab, 102)
    with Agent(xen_lab.plan, host, timeout=LIMIT) as agent:
        agent.call("hello")
        guest.create(agent)
        with Terminal(xen_lab, host, guest.uuid) as terminal:
            terminal.wait_for("GUEST-UP")
        told = agent.call("xenstore_read", uuid=guest.uuid, path="vm-data/told")
        assert told == {"value": "by the host"}
        wanted = {"event": "xenstore", "uuid": guest.uuid, "path": "vm-data/up", "value": "yes"}
        while agent.event() != wanted:
            pass
        (measured,) = agent.call("stats")["domains"]
        assert measured["cpu_ns"] > 0
        assert measured["vifs"][0]["rx_packets"] > 0
        # A late reader sees the past.
        with Terminal(xen_lab, host, guest.uuid) as terminal:
            terminal.wait_for("GUEST-UP")
        known = agent.call("hello")
        agent.call("restart")
        with pytest.raises(OSError, match="closed"):
            list(iter(agent.event, None))
    wait_until(lambda: other_agent(xen_lab, known["pid"]))
    assert await_agent(xen_lab.machines[0])["domains"] == known["domains"]
    with Agent(xen_lab.plan, host, timeout=LIMIT) as agent:
        agent.call("hello")
        with Terminal(xen_lab, host, guest.uuid) as terminal:
            terminal.type("off")
        ended = {"event": "domain", "uuid": guest.uuid, "state": "ended", "reason": "poweroff"}
        while agent.event() != ended:
            pass
        assert agent.call("hello")["domains"] == []


def test_a_locked_interface_lets_no_frame_with_anothers_address_through(xen_lab: XenLab) -> None:
    locked = Guest(xen_lab, 103, locked=True)
    free = Guest(xen_lab, 104, locked=False)
    with Agents(xen_lab) as agents, Sniffer(xen_lab) as sniffer:
        for agent, guest in zip(agents, (locked, free), strict=True):
            guest.create(agent)
        for host, guest, number in zip(
            xen_lab.plan.hosts, (locked, free), ("222", "233"), strict=True
        ):
            with Terminal(xen_lab, host, guest.uuid) as terminal:
                terminal.wait_for("GUEST-UP")
                guest.boot_id()
                terminal.type(f"spoof {number}")
                terminal.wait_for(f"GUEST-SPOOFED {number}")
        for agent, guest in zip(agents, (locked, free), strict=True):
            agent.call("destroy", uuid=guest.uuid)
        frames = sniffer.frames()

    def claims(number: int, mac_end: int) -> dict[str, bool]:
        address4 = bytes([10, 77, 0, number])
        address6 = socket.inet_pton(socket.AF_INET6, f"fd00::{number}")
        mac = bytes([0x00, 0x16, 0x3E, 0x66, 0x66, mac_end])
        arp, ip4, ip6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
        return {
            "arp": any(f[12:14] == arp and f[28:32] == address4 for f in frames),
            "ipv4": any(f[12:14] == ip4 and f[26:30] == address4 for f in frames),
            "ipv6": any(f[12:14] == ip6 and address6 in f[14:] for f in frames),
            "mac": any(f[6:12] == mac for f in frames),
        }

    # What the free one got through proves that both tried.
    assert claims(233, 0x33) == {"arp": True, "ipv4": True, "ipv6": True, "mac": True}
    assert claims(222, 0x22) == {"arp": False, "ipv4": False, "ipv6": False, "mac": False}


def test_a_network_with_a_vlan_joins_hosts_and_is_no_part_of_another(xen_lab: XenLab) -> None:
    one = Guest(xen_lab, 106, bridge="net7", subnet="10.78.0")
    two = Guest(xen_lab, 107, bridge="net7", subnet="10.78.0")
    address = ["10.78.0.1/24", "dev", "lab0"]
    with Agents(xen_lab) as agents:
        for agent, guest in zip(agents, (one, two), strict=True):
            agent.call("bridge", name="net7", vlan=7)
            guest.create(agent)
        here, there = xen_lab.plan.hosts
        with (
            Terminal(xen_lab, here, one.uuid) as terminal,
            Terminal(xen_lab, there, two.uuid) as other,
        ):
            terminal.wait_for("GUEST-UP")
            other.wait_for("GUEST-UP")
            terminal.type(f"get {two.address}")
            terminal.wait_for("GUEST-GOT 0")
        run(["ip", "-n", xen_lab.plan.namespace, "addr", "add", *address], timeout=20)
        try:
            with pytest.raises(OSError, match=r"route|timed out"):
                one.boot_id()
        finally:
            run(["ip", "-n", xen_lab.plan.namespace, "addr", "del", *address], timeout=20)
        for agent, guest in zip(agents, (one, two), strict=True):
            agent.call("destroy", uuid=guest.uuid)
            agent.call("bridge_gone", name="net7")


def test_an_interface_hangs_on_another_bridge_at_once_and_its_domain_moves_with_it(
    xen_lab: XenLab,
) -> None:
    here, there = xen_lab.plan.hosts
    guest = Guest(xen_lab, 108, bridge="alone")
    with Agents(xen_lab) as (source, target):
        source.call("bridge", name="alone", vlan=None)
        guest.create(source)
        with Terminal(xen_lab, here, guest.uuid) as terminal:
            terminal.wait_for("GUEST-UP")
        with pytest.raises(OSError, match=r"route|timed out"):
            guest.boot_id()
        source.call("vif_move", uuid=guest.uuid, device=0, bridge="xenbr0")
        before = guest.boot_id()
        source.call("bridge_gone", name="alone")
        with pytest.raises(XenlabError) as refused:
            source.call("vif_move", uuid=guest.uuid, device=0, bridge="alone")
        assert refused.value.code == "no_such_bridge"
        guest.bridge = "xenbr0"
        target.call("receive", **guest.devices)
        source.call("migrate", uuid=guest.uuid, to=there.address)
        assert guest.boot_id() == before
        target.call("pause", uuid=guest.uuid)
        target.call("bridge", name="alone", vlan=None)
        for bridge in ("alone", "xenbr0"):
            target.call("vif_move", uuid=guest.uuid, device=0, bridge=bridge)
        target.call("unpause", uuid=guest.uuid)
        assert guest.boot_id() == before
        target.call("destroy", uuid=guest.uuid)
        target.call("bridge_gone", name="alone")


def test_a_disk_outlives_its_server(xen_lab: XenLab, tmp_path: Path) -> None:
    host = xen_lab.plan.hosts[0]
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * (1 << 20))
    guest = Guest(xen_lab, 105, disk="kept")
    with Agent(xen_lab.plan, host, timeout=LIMIT) as agent:
        with disk_server(xen_lab, disk, "kept"):
            attach(agent, "kept")
            guest.create(agent)
            with Terminal(xen_lab, host, guest.uuid) as terminal:
                terminal.wait_for("GUEST-UP")
        with (
            disk_server(xen_lab, disk, "kept"),
            Terminal(xen_lab, host, guest.uuid) as terminal,
        ):
            terminal.type("write")
            terminal.wait_for("GUEST-WROTE 0")
            agent.call("destroy", uuid=guest.uuid)
            agent.call("disk_detach", vdi="kept")
    assert disk.read_bytes()[4096:4101] == b"wrote"


def test_a_host_without_power_is_off_and_holds_no_connection(
    xen_lab: XenLab, tmp_path: Path
) -> None:
    machine = xen_lab.machines[1]
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * (1 << 20))
    with disk_server(xen_lab, disk, "root"), Agent(xen_lab.plan, machine.host) as agent:
        attach(agent, "root")
        before = agent.call("hello")["boot_id"]
        assert namespace.connections(xen_lab.plan, machine.host.address) > 0
        pid = machine.pid()
        assert runs(pid)
        machine.power_off()
        assert not machine.is_on()
        assert not runs(pid)
        assert namespace.connections(xen_lab.plan, machine.host.address) == 0
        with pytest.raises(XenlabError) as silent:
            agent.call("hello")
        assert silent.value.code == "host_silent"
    machine.power_on()
    assert await_agent(machine)["boot_id"] != before


def test_labs_side_by_side_do_not_meet_and_down_leaves_nothing(xen_lab: XenLab) -> None:
    first = xen_lab.plan
    state = first.folder.parents[1]
    other = XenLab(plan(state, name=f"{first.name}-b", hosts=1, image=first.image))
    try:
        other.up()
        pid = other.machines[0].pid()
        with Agent(first, first.hosts[0]) as ours, Agent(other.plan, other.plan.hosts[0]) as theirs:
            assert ours.call("bridge", name="only-ours", vlan=None) == {}
            with pytest.raises(XenlabError) as unknown:
                theirs.call("no_such_request")
        assert unknown.value.code == "unknown_request"
    finally:
        other.down()
    assert not runs(pid)
    assert not other.plan.folder.exists()
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, timeout=20, check=True)
    assert other.plan.namespace not in listed.stdout.split()
    assert await_agent(xen_lab.machines[0])


def other_agent(lab: XenLab, pid: int) -> bool:
    """Whether the first host's agent is another than it was."""
    try:
        return bool(await_agent(lab.machines[0])["pid"] != pid)
    except XenlabError:
        return False


class Agents:
    """A connection with each host's agent."""

    def __init__(self, lab: XenLab) -> None:
        self._agents = [Agent(lab.plan, host, timeout=LIMIT) for host in lab.plan.hosts]

    def __enter__(self) -> list[Agent]:
        return self._agents

    def __exit__(self, *_: object) -> None:
        for agent in self._agents:
            agent.__exit__(None, None, None)


class Sniffer:
    """Every frame that comes out of a host's network card."""

    def __init__(self, lab: XenLab) -> None:
        with namespace.inside(lab.plan.namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.settimeout(0.2)
        self._frames: list[bytes] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Sniffer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(20)
        self._socket.close()

    def frames(self) -> list[bytes]:
        return list(self._frames)

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self._frames.append(self._socket.recv(2048))
            except TimeoutError:
                continue
