"""Disks that come over the network: the handshake of the NBD protocol, then the kernel's client.

Handshake: fixed newstyle of the protocol's proto.md; kernel interface: linux/nbd-netlink.h. The kernel
keeps, as a device's `backend`, what it was attached to: that is how an agent that starts again knows.
A disk's link says which device to ask, so that no look at a disk goes through all devices.
A server that goes away is sought again for as long as the device's `dead_timeout`; I/O waits meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.xenlab.agent import netlink
from deploy.xenlab.agent.errors import AgentError

SYSTEM = Path("/sys/block")
LINKS = Path("/dev/bulkhead")
NODE = "/dev/nbd"
CONNECT, DISCONNECT, RECONFIGURE = 1, 2, 3
INDEX, SIZE, BLOCK_SIZE, SERVER_FLAGS, SOCKETS, DEAD_TIMEOUT, BACKEND = 1, 2, 3, 5, 7, 8, 10
SOCKET_ITEM, SOCKET_FD = 1, 1
MAGIC, OPTION_MAGIC, REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
GO = 7
ACKNOWLEDGED, INFORMATION = 1, 3
READ_ONLY = 1 << 1
SECTOR = 512


@dataclass(frozen=True)
class Export:
    """Where a disk is served."""

    vdi: str
    host: str
    port: int
    export: str
    read_only: bool


@dataclass(frozen=True)
class Attached:
    index: int
    export: Export

    @property
    def device(self) -> str:
        """The kernel's name, this host's affair."""
        return f"nbd{self.index}"

    @property
    def path(self) -> str:
        """The same on every host, so that a domain's configuration fits wherever it moves."""
        return str(LINKS / self.export.vdi)


async def attach(export: Export, *, timeout: float, dead_timeout: int) -> Attached:
    """A block device of dom0 that is the export; the one there is, when there is one.

    Raises AgentError `disk_unreachable`, `disk_refused`, `disk_attached`.
    """
    if known := _attached_as(export):
        return known
    connection, size, flags = await _connect(export, timeout)
    with connection:
        # Another request may have been for the same disk. From here on nothing comes in between.
        if known := _attached_as(export):
            return known
        if export.read_only:
            flags |= READ_ONLY
        # Without an index the kernel takes a device that nobody has open, and makes one when there is none.
        answers = netlink.ask(
            "nbd",
            CONNECT,
            netlink.attribute(SIZE, struct.pack("=Q", size)),
            netlink.attribute(BLOCK_SIZE, struct.pack("=Q", SECTOR)),
            netlink.attribute(SERVER_FLAGS, struct.pack("=Q", flags)),
            netlink.attribute(DEAD_TIMEOUT, struct.pack("=Q", dead_timeout)),
            netlink.attribute(BACKEND, json.dumps(asdict(export)).encode() + b"\0"),
            _socket(connection),
        )
    told = {kind: value for answer in answers for kind, value in netlink.attributes(answer)}
    (index,) = struct.unpack("=I", told[INDEX])
    new = Attached(index, export)
    try:
        _link(new)
    except OSError:
        _disconnect(new)
        raise
    return new


async def reconnect(device: Attached, *, timeout: float) -> None:
    """Gives a device whose server went away a new connection."""
    connection, _, _ = await _connect(device.export, timeout)
    with connection:
        netlink.ask(
            "nbd",
            RECONFIGURE,
            netlink.attribute(INDEX, struct.pack("=I", device.index)),
            netlink.attribute(BACKEND, json.dumps(asdict(device.export)).encode() + b"\0"),
            _socket(connection),
        )


def detach(vdi: str) -> None:
    """Gives up a disk; one that is not attached is no error. The caller knows that no domain uses it."""
    if known := find(vdi):
        # A link must never lead to what is another disk's device by now.
        Path(known.path).unlink()
        try:
            _disconnect(known)
        except OSError:
            _link(known)
            raise


def attached() -> list[Attached]:
    """Every disk that is attached."""
    found = [find(name) for name in os.listdir(LINKS)]  # noqa: PTH208
    return sorted((one for one in found if one), key=lambda one: one.index)


def one(vdi: str) -> Attached:
    """A disk that is attached; raises AgentError `disk_not_attached`."""
    if (known := find(vdi)) is None:
        raise AgentError("disk_not_attached", f"disk {vdi} is not attached to this host")
    return known


def find(vdi: str) -> Attached | None:
    """A disk, if it is attached: its link says where to look, the kernel whether it is there."""
    try:
        target = os.readlink(f"{LINKS}/{vdi}")  # noqa: PTH115
    except FileNotFoundError:
        return None
    known = at(int(target.removeprefix(NODE)))
    return known if known and known.export.vdi == vdi else None


def at(index: int) -> Attached | None:
    """What the kernel says a device is attached to."""
    folder = f"{SYSTEM}/nbd{index}"
    # Plain strings: Path takes several times as long, of which an emulated processor makes milliseconds.
    if not os.path.exists(f"{folder}/pid"):  # noqa: PTH110
        return None
    try:
        with open(f"{folder}/backend") as file:  # noqa: PTH123
            text = file.read().strip()
    except OSError:
        return None
    return Attached(index, Export(**json.loads(text))) if text else None


def adopt() -> None:
    """Links every disk that has no link because an agent ended before it made one. Once, at the start."""
    LINKS.mkdir(exist_ok=True)
    for name in os.listdir(SYSTEM):  # noqa: PTH208
        if name.startswith("nbd") and (known := at(int(name[3:]))) and not find(known.export.vdi):
            _link(known)


def counters(device: str) -> dict[str, int]:
    """Requests and bytes of a block device since it was attached."""
    numbers = [int(n) for n in (SYSTEM / device / "stat").read_text().split()]
    return {
        "read_requests": numbers[0],
        "read_bytes": numbers[2] * SECTOR,
        "write_requests": numbers[4],
        "write_bytes": numbers[6] * SECTOR,
    }


def _attached_as(export: Export) -> Attached | None:
    """The disk, if it is attached; raises AgentError when it is not attached like this."""
    known = find(export.vdi)
    if known and known.export != export:
        raise AgentError("disk_attached", f"{export.vdi} is attached in another way")
    return known


def _link(disk: Attached) -> None:
    link = Path(disk.path)
    link.unlink(missing_ok=True)
    link.symlink_to(f"{NODE}{disk.index}")


def _disconnect(disk: Attached) -> None:
    netlink.ask("nbd", DISCONNECT, netlink.attribute(INDEX, struct.pack("=I", disk.index)))


def _socket(connection: socket.socket) -> bytes:
    descriptor = netlink.attribute(SOCKET_FD, struct.pack("=I", connection.fileno()))
    return netlink.nested(SOCKETS, netlink.nested(SOCKET_ITEM, descriptor))


async def _connect(export: Export, timeout: float) -> tuple[socket.socket, int, int]:
    """A connection past its handshake, the export's size in bytes, and its flags."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    try:
        async with asyncio.timeout(timeout):
            await loop.sock_connect(connection, (export.host, export.port))
            size, flags = await _handshake(connection, export)
    except TimeoutError as late:
        connection.close()
        raise AgentError(
            "disk_unreachable", f"{export.vdi}: no answer in {timeout:.0f} s"
        ) from late
    except OSError as error:
        connection.close()
        raise AgentError("disk_unreachable", f"{export.vdi}: {error}") from error
    except AgentError:
        connection.close()
        raise
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(True)
    return connection, size, flags


async def _handshake(connection: socket.socket, export: Export) -> tuple[int, int]:
    loop = asyncio.get_running_loop()
    if await _read(connection, 16) != MAGIC + OPTION_MAGIC:
        raise AgentError("disk_refused", f"{export.host}:{export.port} is no NBD server")
    await _read(connection, 2)
    name = export.export.encode()
    body = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    # Client flags: fixed newstyle, no zeroes.
    request = struct.pack(">I", 3) + OPTION_MAGIC + struct.pack(">II", GO, len(body)) + body
    await loop.sock_sendall(connection, request)
    # A server that answers in small parts (qemu-nbd) sends the second when the first is acknowledged, which a
    # kernel that has just sent something itself puts off for 40 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    size, flags = None, 0
    while True:
        magic, option, kind, length = struct.unpack(">QIII", await _read(connection, 20))
        answer = await _read(connection, min(length, 65536))
        if magic != REPLY_MAGIC or option != GO or kind >= 1 << 31:
            said = answer.decode(errors="replace")
            raise AgentError("disk_refused", f"{export.export}: {said or hex(kind)}")
        if kind == INFORMATION and answer[:2] == b"\0\0":
            size, flags = struct.unpack(">QH", answer[2:12])
        if kind == ACKNOWLEDGED:
            if size is None:
                raise AgentError("disk_refused", f"{export.export}: the server told no size")
            return size, flags


async def _read(connection: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        if not (part := await loop.sock_recv(connection, count - len(data))):
            raise ConnectionResetError("the NBD server closed the connection")
        data += part
    return data
