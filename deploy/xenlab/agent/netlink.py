"""As much of generic netlink (linux/netlink.h, genetlink.h) as the block device client needs."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from functools import cache

GENERIC = 16
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")
ERROR = 2
REQUEST, ACKNOWLEDGE = 0x1, 0x4
CONTROL_FAMILY, GET_FAMILY = 0x10, 3
FAMILY_ID, FAMILY_NAME, GROUPS = 1, 2, 7
GROUP_NAME, GROUP_ID = 1, 2
LEVEL, ADD_MEMBERSHIP = 270, 1
NESTED = 0x8000
TIMEOUT = 10.0


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kinds and values of what a message holds."""
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            return
        yield kind & ~NESTED, data[ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def ask(family: str, command: int, *given: bytes) -> list[bytes]:
    """Sends a command and waits for its acknowledgement; the payloads that came before it.

    Raises the kernel's refusal as OSError.
    """
    with _open() as kernel:
        return _receive(kernel, _send(kernel, _identity(family), command, *given))


def hear(family: str, group: str) -> socket.socket:
    """A socket, not waiting, that receives what the kernel tells a family's group."""
    kernel = _open()
    for _, one in attributes(_family(kernel, family)[GROUPS]):
        known = dict(attributes(one))
        if known[GROUP_NAME] == group.encode() + b"\0":
            (number,) = struct.unpack("=I", known[GROUP_ID])
            kernel.setsockopt(LEVEL, ADD_MEMBERSHIP, number)
            kernel.setblocking(False)
            return kernel
    kernel.close()
    raise OSError(errno.ENOENT, f"the kernel's {family} has no group {group}")


def message(data: bytes) -> tuple[int, dict[int, bytes]]:
    """A generic message's command and attributes."""
    return data[HEADER.size], dict(attributes(data[HEADER.size + 4 :]))


def _open() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, GENERIC)
    kernel.settimeout(TIMEOUT)
    kernel.bind((0, 0))
    return kernel


@cache
def _identity(family: str) -> int:
    """A family's number, which stays as long as its module."""
    with _open() as kernel:
        (identity,) = struct.unpack_from("=H", _family(kernel, family)[FAMILY_ID])
        return int(identity)


def _family(kernel: socket.socket, name: str) -> dict[int, bytes]:
    wanted = attribute(FAMILY_NAME, name.encode() + b"\0")
    number = _send(kernel, CONTROL_FAMILY, GET_FAMILY, wanted)
    return {kind: value for part in _receive(kernel, number) for kind, value in attributes(part)}


def _send(kernel: socket.socket, family: int, command: int, *given: bytes) -> int:
    payload = struct.pack("=BBH", command, 1, 0) + b"".join(given)
    number = int.from_bytes(os.urandom(3), "little")
    flags = REQUEST | ACKNOWLEDGE
    kernel.send(HEADER.pack(HEADER.size + len(payload), family, flags, number, 0) + payload)
    return number


def _receive(kernel: socket.socket, number: int) -> list[bytes]:
    payloads: list[bytes] = []
    while True:
        data = kernel.recv(65536)
        while len(data) >= HEADER.size:
            length, kind, _, sequence, _ = HEADER.unpack_from(data)
            body = data[HEADER.size : length]
            data = data[(length + 3) & ~3 :]
            if sequence != number:
                continue
            if kind == ERROR:
                (code,) = struct.unpack_from("=i", body)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return payloads
            payloads.append(body[4:])
