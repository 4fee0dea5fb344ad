"""A connection whose two ends send lines of JSON: an agent's, and QEMU's control socket."""

from __future__ import annotations

import contextlib
import json
import socket
from types import TracebackType
from typing import Any, Self


class JsonLines:
    """Blocking, with the socket's own time limit. `peer` is who is said to have closed it."""

    def __init__(self, connection: socket.socket, *, peer: str) -> None:
        self._socket = connection
        self._file = connection.makefile("rwb")
        self._peer = peer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # A request that could not be sent would be tried once more.
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def send(self, request: dict[str, Any]) -> None:
        """Raises OSError."""
        self._file.write(json.dumps(request).encode() + b"\n")
        self._file.flush()

    def line(self) -> dict[str, Any]:
        """What comes next, waited for; raises OSError."""
        line = self._file.readline()
        if not line:
            raise ConnectionResetError(f"{self._peer} closed the connection")
        answer: dict[str, Any] = json.loads(line)
        return answer
