"""A lab that listens: one HTTPS server a host."""

from __future__ import annotations

import asyncio
import errno
import secrets
import ssl
from dataclasses import replace
from functools import partial

from deploy.lab import http as _http  # noqa: F401  (registers the handlers)
from deploy.lab.certificates import load_chain, make_certificate, record, server_context
from deploy.lab.http.server import HttpServer
from deploy.lab.lab import Config, Lab
from deploy.lab.machine import Machine
from deploy.lab.resume import save
from deploy.lab.side_servers import SideServer, start_bmcs, start_control
from deploy.lab.state import StateFile, WrongState

SAVE_PERIOD = 1.0
"""Real seconds between two saves of a lab that is kept in a file."""


class LabServer:
    """Start with `start`, stop with `stop`; both on the loop that runs the lab."""

    def __init__(
        self,
        config: Config,
        *,
        tls: bool = True,
        sides: bool = False,
        state: StateFile | None = None,
    ) -> None:
        self.state = state
        kept = (state.fact("accounts") or {}) if state is not None else {}
        _make_up_passwords(config, kept)
        if state is not None:
            _remember(config, state)
            state.set_fact("accounts", kept | {n: a.password for n, a in config.accounts.items()})
        self.lab = Lab(config, state)
        self.tls = tls
        self.servers: dict[str, HttpServer] = {}
        self.sides = sides
        """Serve the control API and the management controllers too."""
        self.control: SideServer | None = None
        self.bmcs: SideServer | None = None
        self._periodic: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.lab.backend.start()
        port = self.lab.config.port
        for machine in self.lab.machines.values():
            key, machine.certificate = self._certificate(machine)
            record(self.lab, machine.host, "host", machine.certificate)
            context = server_context(key, machine.certificate) if self.tls else None
            machine.use_certificate = partial(self._use_certificate, machine, context)
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
            self.bmcs = await start_bmcs(self.lab, config.bmc_port, *self._bmc_certificate())
        self._periodic = [asyncio.ensure_future(self.lab.run())]
        if self.state is not None:
            self._periodic.append(asyncio.ensure_future(self._keep_saved(self.state)))

    def _certificate(self, machine: Machine) -> tuple[str, str]:
        """Key and certificate of a host: made once, kept with the state."""
        name = f"certificate:{machine.host.uuid}"
        kept = self.state.fact(name) if self.state is not None else None
        if kept is None:
            kept = make_certificate(machine.name, machine.address)
            if self.state is not None:
                self.state.set_fact(name, kept)
            _, internal = make_certificate(f"{machine.name}-internal", machine.address)
            record(self.lab, machine.host, "host_internal", internal)
        key, certificate = kept
        return key, certificate

    def _bmc_certificate(self) -> tuple[str, str]:
        """Key and certificate of all management controllers, kept too: clients pin it."""
        kept = self.state.fact("certificate:bmc") if self.state is not None else None
        if kept is None:
            kept = make_certificate("bmc", self.lab.coordinator.address)
            if self.state is not None:
                self.state.set_fact("certificate:bmc", kept)
        key, certificate = kept
        return key, certificate

    def _use_certificate(
        self, machine: Machine, context: ssl.SSLContext | None, key: str, certificate: str
    ) -> None:
        if context is not None:
            load_chain(context, key, certificate)
        if self.state is not None:
            self.state.set_fact(f"certificate:{machine.host.uuid}", (key, certificate))
        machine.certificate = certificate
        record(self.lab, machine.host, "host", certificate)

    async def _keep_saved(self, state: StateFile) -> None:
        while True:
            await asyncio.sleep(SAVE_PERIOD)
            save(self.lab, state)

    async def stop(self) -> None:
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*self._periodic, return_exceptions=True)
        for side in (self.control, self.bmcs):
            if side is not None:
                await side.stop()
        for server in self.servers.values():
            await server.stop()
        await self.lab.backend.stop()
        if self.state is not None:
            save(self.lab, self.state)
            self.state.close()
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
    config: Config,
    *,
    tls: bool = True,
    sides: bool = False,
    state: StateFile | None = None,
    tries: int = 20,
) -> LabServer:
    """Start with a port that is free at every host's address (a port given is not changed)."""
    for attempt in range(tries):
        server = LabServer(config, tls=tls, sides=sides, state=state)
        try:
            await server.start()
        except OSError as error:
            await server.stop()
            if error.errno != errno.EADDRINUSE or config.port or attempt == tries - 1:
                raise
        else:
            return server
    raise AssertionError


def _make_up_passwords(config: Config, kept: dict[str, str]) -> None:
    """Give every account that has no password the one it had, or a new one."""
    for name, account in config.accounts.items():
        password = account.password or kept.get(name) or secrets.token_urlsafe(12)
        config.accounts[name] = replace(account, password=password)


def _remember(config: Config, state: StateFile) -> None:
    """Take passwords from the state if it has them; refuse a pool of another shape."""
    hosts = state.fact("hosts")
    if hosts is not None and hosts != config.hosts:
        raise WrongState(
            f"{state.path} holds a pool of {hosts} hosts, not {config.hosts}. Ask for {hosts} "
            "hosts, or name another file."
        )
    state.set_fact("hosts", config.hosts)
    config.password = config.password or state.fact("password") or secrets.token_urlsafe(12)
    config.bmc_password = state.fact("bmc_password") or config.bmc_password
    state.set_fact("password", config.password)
    state.set_fact("bmc_password", config.bmc_password)
