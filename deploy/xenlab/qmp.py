"""QEMU's control socket: JSON lines of the QEMU Machine Protocol."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.xenlab.errors import XenlabError


class Qmp:
    """One connection; QEMU serves one at a time. Use it as a context, briefly."""

    def __init__(self, path: Path, *, timeout: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._file = self._socket.makefile("rwb")
            self._line()
            self.call("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise XenlabError("host_silent", f"no machine answers at {path}: {error}") from error

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def call(self, command: str, **arguments: Any) -> Any:
        """What a command returns; raises XenlabError `host_refused`, `host_silent`."""
        try:
            self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode())
            self._file.write(b"\n")
            self._file.flush()
            while True:
                answer = self._line()
                if "error" in answer:
                    raise XenlabError("host_refused", f"{command}: {answer['error'].get('desc')}")
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise XenlabError("host_silent", f"{command}: {error}") from error

    def await_migration(self, *, timeout: float) -> None:
        """Waits until a state is written or read; raises XenlabError `state_failed`."""
        until = time.monotonic() + timeout
        while (state := self.call("query-migrate")).get("status") != "completed":
            if state.get("status") in ("failed", "cancelled"):
                raise XenlabError("state_failed", f"the host's state: {state}")
            if time.monotonic() > until:
                raise XenlabError("state_failed", f"the host's state took over {timeout:.0f} s")
            time.sleep(0.02)

    def _line(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise ConnectionResetError("QEMU closed the connection")
        answer: dict[str, Any] = json.loads(line)
        return answer
