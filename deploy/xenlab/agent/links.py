"""Bridges, VLANs and a domain's interfaces, by the kernel's ioctls (linux/sockios.h, if_vlan.h)."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from pathlib import Path

TRUNK = "eth0"
ADD_BRIDGE, REMOVE_BRIDGE, ADD_PORT, REMOVE_PORT = 0x89A0, 0x89A1, 0x89A2, 0x89A3
GET_FLAGS, SET_FLAGS, GET_INDEX, VLAN = 0x8913, 0x8914, 0x8933, 0x8983
UP = 0x1
ADD_VLAN, REMOVE_VLAN = 0, 1
SYSTEM = Path("/sys/class/net")


def add_bridge(name: str, vlan: int | None) -> None:
    """A bridge that is up; with a VLAN it reaches the other hosts, without one this host only."""
    _ignore(errno.EEXIST, ADD_BRIDGE, name.encode().ljust(16, b"\0"))
    (SYSTEM / name / "bridge/forward_delay").write_text("0")
    set_up(name, up=True)
    if vlan is not None:
        _ignore(errno.EEXIST, VLAN, _vlan(ADD_VLAN, TRUNK, vlan))
        add_port(name, f"{TRUNK}.{vlan}")
        set_up(f"{TRUNK}.{vlan}", up=True)


def remove_bridge(name: str) -> None:
    """The bridge and its VLAN's device; a missing one is no error."""
    if not (SYSTEM / name / "bridge").exists():
        return
    for port in ports(name):
        if port.startswith(f"{TRUNK}."):
            _ignore(errno.ENODEV, VLAN, _vlan(REMOVE_VLAN, port, 0))
    set_up(name, up=False)
    _ignore(errno.ENXIO, REMOVE_BRIDGE, name.encode().ljust(16, b"\0"))


def ports(bridge: str) -> list[str]:
    """Names of what hangs on a bridge."""
    return sorted(path.name for path in (SYSTEM / bridge / "brif").iterdir())


def is_bridge(name: str) -> bool:
    return (SYSTEM / name / "bridge").exists()


def add_port(bridge: str, port: str) -> None:
    """Hangs a device on a bridge, and on no other; does nothing when it hangs there."""
    before = bridge_of(port)
    if before == bridge:
        return
    index = struct.unpack_from(
        "i", _control(GET_INDEX, struct.pack("16si20x", port.encode(), 0)), 16
    )
    if before is not None:
        _control(REMOVE_PORT, struct.pack("16si20x", before.encode(), *index))
    _control(ADD_PORT, struct.pack("16si20x", bridge.encode(), *index))


def bridge_of(port: str) -> str | None:
    """What a device hangs on."""
    try:
        return (SYSTEM / port / "brport/bridge").readlink().name
    except FileNotFoundError:
        return None


def set_up(name: str, *, up: bool) -> None:
    request = _control(GET_FLAGS, struct.pack("16sh22x", name.encode(), 0))
    (flags,) = struct.unpack_from("h", request, 16)
    flags = flags | UP if up else flags & ~UP
    _control(SET_FLAGS, struct.pack("16sh22x", name.encode(), flags))


def exists(name: str) -> bool:
    return (SYSTEM / name).exists()


def counters(name: str) -> dict[str, int]:
    """Bytes and packets that a device took in and gave out; empty when it is gone."""
    found = {}
    for counter in ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets", "rx_dropped", "tx_dropped"):
        try:
            found[counter] = int((SYSTEM / name / "statistics" / counter).read_text())
        except OSError:
            return {}
    return found


def _vlan(command: int, device: str, number: int) -> bytes:
    # struct vlan_ioctl_args: int, 24 bytes of name, a union of 24 bytes, short.
    return struct.pack("i24si20xh2x", command, device.encode(), number, 0)


def _control(request: int, argument: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, request, argument)


def _ignore(number: int, request: int, argument: bytes) -> None:
    try:
        _control(request, argument)
    except OSError as error:
        if error.errno != number:
            raise
