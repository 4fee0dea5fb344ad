"""Makes many of xenstore's nodes at once, over a connection of its own that blocks.

xenstored answers each message by itself, and each answer that wakes an event loop costs some 3 ms here: a
domain's four devices are a hundred messages.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.xenlab.agent.xenstore import (
    ANSWER,
    ERROR,
    HEADER,
    MKDIR,
    SET_PERMISSIONS,
    SOCKET,
    WRITE,
)

BEGIN, END = 6, 7
TRIES = 10


@dataclass(frozen=True)
class Node:
    """One to be made with what is below it: `values` by name.

    `permissions`, of all of them, as for `Xenstore.permit`; without any its parent's.
    """

    path: str
    values: Mapping[str, str]
    permissions: tuple[str, ...] = ()


def make_all(nodes: Sequence[Node], path: str = SOCKET) -> None:
    """Whoever watches sees all of the nodes or none. Blocks; raises OSError."""
    messages = [message for node in nodes for message in _messages(node)]
    with socket.socket(socket.AF_UNIX) as store:
        store.settimeout(ANSWER)
        store.connect(path)
        for _ in range(TRIES):
            (begun,) = _exchange(store, 0, [(BEGIN, b"\0")])
            transaction = int(begun.rstrip(b"\0"))
            _exchange(store, transaction, messages)
            try:
                _exchange(store, transaction, [(END, b"T\0")])
            except BlockingIOError:
                continue  # EAGAIN: somebody else changed one of the same nodes meanwhile
            return
    raise BlockingIOError(errno.EAGAIN, "xenstore: no transaction comes to its end")


def _messages(node: Node) -> list[tuple[int, bytes]]:
    # What is made below a node gets its permissions. A value's parents are made with it.
    made = [] if node.values and not node.permissions else [(MKDIR, _parts(node.path, ""))]
    if node.permissions:
        made.append((SET_PERMISSIONS, _parts(node.path, *node.permissions, "")))
    written = [(WRITE, _parts(f"{node.path}/{name}", value)) for name, value in node.values.items()]
    return made + written


def _exchange(
    store: socket.socket, transaction: int, messages: Sequence[tuple[int, bytes]]
) -> list[bytes]:
    """Sends all, and answers what comes back; raises the first refusal as OSError."""
    store.sendall(
        b"".join(
            HEADER.pack(kind, number, transaction, len(payload)) + payload
            for number, (kind, payload) in enumerate(messages)
        )
    )
    answers: list[bytes] = []
    data = b""
    while len(answers) < len(messages):
        if not (some := store.recv(1 << 16)):
            raise ConnectionResetError("xenstored closed the connection")
        data += some
        while len(data) >= HEADER.size:
            kind, _, _, length = HEADER.unpack_from(data)
            if len(data) < HEADER.size + length:
                break
            answers.append(data[HEADER.size : HEADER.size + length])
            data = data[HEADER.size + length :]
            if kind == ERROR:
                name = answers[-1].rstrip(b"\0").decode()
                number = getattr(errno, name, errno.EIO)
                raise OSError(number, f"xenstore: {os.strerror(number)} ({name})")
    return answers


def _parts(*parts: str) -> bytes:
    return b"\0".join(part.encode() for part in parts)
