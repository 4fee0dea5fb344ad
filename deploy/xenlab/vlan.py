"""A place on tenants' VLANs for this machine: where the kernel has no 802.1Q devices, frames are tagged here.

One veth pair is this machine's port on the lab's bridge; each VLAN joined has a TAP device with its gateway's
address, whose frames get the tag on their way out and lose it on their way in. The namespace routes nothing
from one network to another.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import threading
from ipaddress import IPv4Interface

from deploy.xenlab.commands import run
from deploy.xenlab.namespace import SHORT, inside
from deploy.xenlab.plan import BRIDGE, LabPlan

# linux/if_tun.h, linux/if_packet.h, linux/if_ether.h, linux/virtio_net.h, IEEE 802.1Q
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_VNET_HDR = 263, 8, 15
_HEADER = 10
"""Bytes before each frame (struct virtio_net_hdr): dom0 leaves checksums and segments to the next in line."""
_PACKET_OUTGOING = 4
_ETH_P_ALL = 0x0003
_TPID = b"\x81\x00"
_TAG_VALID = 1 << 4
_AUXDATA = struct.Struct("<IIIHHHH")
_BEFORE_TAG = _HEADER + 12
_LONGEST = 65_536 + _HEADER


class Edge:
    """This machine's port on the trunk; `close` takes it away."""

    def __init__(self, plan: LabPlan) -> None:
        self._plan = plan
        self._ours, self._theirs = "edge", "edge-port"
        self._ip = ["ip", "-n", plan.namespace]
        if f": {self._ours}@" in run([*self._ip, "-o", "link"], timeout=SHORT):
            run([*self._ip, "link", "del", self._ours], timeout=SHORT)  # of one that was killed
        pair = ["type", "veth", "peer", "name", self._theirs]
        run([*self._ip, "link", "add", self._ours, *pair], timeout=SHORT)
        run([*self._ip, "link", "set", self._theirs, "master", BRIDGE, "up"], timeout=SHORT)
        run([*self._ip, "link", "set", self._ours, "promisc", "on", "up"], timeout=SHORT)
        with inside(plan.namespace):
            self._trunk = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._trunk.bind((self._ours, _ETH_P_ALL))
        self._trunk.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._trunk.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._taps: dict[int, int] = {}
        """Tag → a TAP device's descriptor."""
        self._wake, self._woken = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._trunk, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._pass_on, name="edge", daemon=True)
        self._thread.start()

    def join(self, tag: int, gateway: IPv4Interface) -> None:
        """Be the gateway's address on that VLAN. Once or twice is the same."""
        device = f"edge.{tag}"
        with self._lock:
            if tag in self._taps:
                return
            with inside(self._plan.namespace):
                tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            wish = struct.pack("16sH22x", device.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
            fcntl.ioctl(tap, _TUNSETIFF, wish)
            self._taps[tag] = tap
            self._poll.register(tap, select.POLLIN)
        run([*self._ip, "addr", "add", str(gateway), "dev", device], timeout=SHORT)
        run([*self._ip, "link", "set", device, "up"], timeout=SHORT)

    def close(self) -> None:
        os.write(self._woken, b"x")
        self._thread.join(SHORT)
        for tap in self._taps.values():
            os.close(tap)
        self._trunk.close()
        os.close(self._wake)
        os.close(self._woken)
        run([*self._ip, "link", "del", self._ours], timeout=SHORT)

    def _pass_on(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll(1000):
                if descriptor == self._wake:
                    return
                if descriptor == self._trunk.fileno():
                    self._take_in()
                else:
                    self._send_out(descriptor)

    def _take_in(self) -> None:
        frame, said, _, origin = self._trunk.recvmsg(_LONGEST, socket.CMSG_SPACE(_AUXDATA.size))
        if origin[2] == _PACKET_OUTGOING:
            return
        for level, kind, data in said:
            if (level, kind) != (_SOL_PACKET, _PACKET_AUXDATA):
                continue
            status, *_, tci, _ = _AUXDATA.unpack(data[: _AUXDATA.size])
            tap = self._taps.get(tci & 0xFFF) if status & _TAG_VALID else None
            if tap is not None:
                _write(tap, frame)

    def _send_out(self, tap: int) -> None:
        tag = next(number for number, known in self._taps.items() if known == tap)
        try:
            frame = os.read(tap, _LONGEST)
        except BlockingIOError:
            return
        tagged = frame[:_BEFORE_TAG] + _TPID + struct.pack("!H", tag) + frame[_BEFORE_TAG:]
        try:
            self._trunk.send(tagged)
        except OSError:
            return  # as a wire loses a frame


def _write(tap: int, frame: bytes) -> None:
    try:
        os.write(tap, frame)
    except OSError:
        return  # its device is not up yet, or full
