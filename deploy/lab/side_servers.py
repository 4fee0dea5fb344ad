"""The lab's own servers beside XAPI: the control API and the management controllers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from deploy.lab.bmc import bmc_application
from deploy.lab.control import control_application

if TYPE_CHECKING:
    from deploy.lab.lab import Lab


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the lab's business, not this server's."""
        yield


class SideServer:
    """An ASGI application on listening sockets of ours, on the loop that runs the lab."""

    def __init__(
        self, app: Starlette, sockets: Sequence[socket.socket], certificate: str = ""
    ) -> None:
        self.sockets = list(sockets)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate or None,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.ensure_future(self._server.serve(sockets=self.sockets))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        for listening in self.sockets:
            listening.close()


async def start_control(lab: Lab, address: str, port: int) -> SideServer:
    server = SideServer(control_application(lab), [_listen(address, port)])
    await server.start()
    return server


async def start_bmcs(lab: Lab, port: int, key: str, certificate: str) -> SideServer:
    """One listening socket a host, at the host's address; fills in `Machine.bmc_port`."""
    sockets = []
    for machine in lab.machines.values():
        listening = _listen(machine.address, port)
        port = machine.bmc_port = listening.getsockname()[1]
        sockets.append(listening)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "bmc.pem")
        path.touch(0o600)
        path.write_text(key + certificate)
        server = SideServer(bmc_application(lab), sockets, str(path))
        await server.start()
    return server


def _listen(address: str, port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
