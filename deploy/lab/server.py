"""A lab that listens: one HTTPS server a host."""

from __future__ import annotations

import asyncio
import contextlib
import errno

from deploy.lab import http as _http  # noqa: F401  (registers the handlers)
from deploy.lab.certificates import make_certificate, server_context
from deploy.lab.http.server import HttpServer
from deploy.lab.lab import Config, Lab
from deploy.lab.side_servers import SideServer, start_bmcs, start_control


class LabServer:
    """Start with `start`, stop with `stop`; both on the loop that runs the lab."""

    def __init__(self, config: Config, *, tls: bool = True, sides: bool = False) -> None:
        self.lab = Lab(config)
        self.tls = tls
        self.servers: dict[str, HttpServer] = {}
        self.sides = sides
        """Serve the control API and the management controllers too."""
        self.control: SideServer | None = None
        self.bmcs: SideServer | None = None
        self._periodic: asyncio.Task[None] | None = None

    async def start(self) -> None:
        port = self.lab.config.port
        for machine in self.lab.machines.values():
            context = None
            if self.tls:
                key, machine.certificate = make_certificate(machine.name, machine.address)
                context = server_context(key, machine.certificate)
            machine.port = port
            server = HttpServer(machine, context)
            await server.start()
            # Every host listens on the first one's port, at an address of its own.
            port = machine.port
            machine.cut_connections = server.cut
            self.servers[machine.host.ref] = server
        if self.sides:
            config = self.lab.config
            self.control = await start_control(self.lab, "127.0.0.1", config.control_port)
            self.bmcs = await start_bmcs(self.lab, config.bmc_port)
        self._periodic = asyncio.ensure_future(self.lab.run())

    async def stop(self) -> None:
        if self._periodic is not None:
            self._periodic.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._periodic
        for side in (self.control, self.bmcs):
            if side is not None:
                await side.stop()
        for server in self.servers.values():
            await server.stop()
        await self.lab.close()

    @property
    def control_url(self) -> str:
        assert self.control is not None, "started without its side servers"
        return f"http://127.0.0.1:{self.control.sockets[0].getsockname()[1]}"

    @property
    def urls(self) -> list[str]:
        scheme = "https" if self.tls else "http"
        return [f"{scheme}://{m.address}:{m.port}" for m in self.lab.machines.values()]


async def start_on_a_free_port(
    config: Config, *, tls: bool = True, sides: bool = False, tries: int = 20
) -> LabServer:
    """Start with a port that is free at every host's address (a port given is not changed)."""
    for attempt in range(tries):
        server = LabServer(config, tls=tls, sides=sides)
        try:
            await server.start()
        except OSError as error:
            await server.stop()
            if error.errno != errno.EADDRINUSE or config.port or attempt == tries - 1:
                raise
        else:
            return server
    raise AssertionError
