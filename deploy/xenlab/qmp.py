"""QEMU's control socket: JSON lines of the QEMU Machine Protocol."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from deploy.xenlab.errors import XenlabError
from deploy.xenlab.jsonlines import JsonLines


class Qmp(JsonLines):
    """One connection; QEMU serves one at a time. Use it as a context, briefly."""

    def __init__(self, path: Path, *, timeout: float = 10.0) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            super().__init__(connection, peer="QEMU")
            self.line()
            self.call("qmp_capabilities")
        except OSError as error:
            connection.close()
            raise XenlabError("host_silent", f"no machine answers at {path}: {error}") from error

    def call(self, command: str, **arguments: Any) -> Any:
        """What a command returns; raises XenlabError `host_refused`, `host_silent`."""
        try:
            self.send({"execute": command, "arguments": arguments})
            while True:
                answer = self.line()
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
