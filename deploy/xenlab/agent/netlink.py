"""As much of generic netlink (linux/netlink.h, genetlink.h) as the block device client needs."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

GENERIC = 16
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")
ERROR = 2
REQUEST, ACKNOWLEDGE = 0x1, 0x4
CONTROL_FAMILY, GET_FAMILY = 0x10, 3
FAMILY_ID, FAMILY_NAME = 1, 2
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
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, GENERIC) as kernel:
        kernel.settimeout(TIMEOUT)
        kernel.bind((0, 0))
        number, _ = _send(
            kernel, CONTROL_FAMILY, GET_FAMILY, attribute(FAMILY_NAME, family.encode() + b"\0")
        )
        found = {k: v for p in _receive(kernel, number) for k, v in attributes(p)}
        (identity,) = struct.unpack_from("=H", found[FAMILY_ID])
        number, _ = _send(kernel, identity, command, *given)
        return _receive(kernel, number)


def _send(kernel: socket.socket, family: int, command: int, *given: bytes) -> tuple[int, int]:
    payload = struct.pack("=BBH", command, 1, 0) + b"".join(given)
    number = int.from_bytes(os.urandom(3), "little")
    flags = REQUEST | ACKNOWLEDGE
    kernel.send(HEADER.pack(HEADER.size + len(payload), family, flags, number, 0) + payload)
    return number, flags


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
