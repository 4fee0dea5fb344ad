"""A small NBD client for tests: the few requests that they need, over a bare socket."""

from __future__ import annotations

import contextlib
import socket
import struct

from deploy.lab.nbd import protocol

LIMIT = 30.0
"""Seconds that one answer may take."""


class NbdClient(contextlib.AbstractContextManager["NbdClient"]):
    """The few requests that a test needs, over a bare socket."""

    def __init__(self, host: str, port: int, name: str, *, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), LIMIT, (source, 0))
        self._receive(18)
        body = struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0)
        head = struct.pack(">I8sII", 3, protocol.IHAVEOPT, protocol.Option.GO, len(body))
        self.socket.sendall(head + body)
        kind = 0
        while kind != protocol.Reply.ACK:
            _, _, kind, length = protocol.OPTION_REPLY.unpack(self._receive(20))
            self._receive(length)
            if kind >= 2**31:
                self.socket.close()
                raise PermissionError(f"refused: {kind:x}")

    def ask(self, command: int, offset: int, length: int, data: bytes = b"") -> bytes:
        """Data of the reply; raises OSError with the error's number."""
        magic = protocol.REQUEST_MAGIC
        self.socket.sendall(protocol.REQUEST.pack(magic, 0, command, 7, offset, length) + data)
        _, error, cookie = protocol.SIMPLE_REPLY.unpack(self._receive(16))
        assert cookie == 7
        if error:
            raise OSError(error, "refused")
        return self._receive(length) if command == protocol.Command.READ else b""

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return data

    def __exit__(self, *_: object) -> None:
        self.socket.close()
