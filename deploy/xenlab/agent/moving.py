"""Domains that leave and come: live migration over TCP, save, restore, checkpoint.

The source's xl writes its stream to a helper's standard output (relay.py), which passes it on; at the target
the connection itself becomes `xl migrate-receive`'s standard input and output.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from deploy.xenlab.agent import nbd, spec, xl
from deploy.xenlab.agent.domains import Domains
from deploy.xenlab.agent.errors import AgentError
from deploy.xenlab.agent.journal import report

PORT = 7701
SAVED = Path("/var/lib/bulkhead")
MOVE = 600.0
HEADER = 65536


class Moving:
    """What comes must have been announced by `receive`."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains
        self._expected: dict[str, spec.Devices] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("0.0.0.0", PORT), reuse_port=False, backlog=8)
        self._listener.setblocking(False)

    async def start(self) -> None:
        self._spawn(self._accept())

    def expect(self, devices: spec.Devices) -> None:
        """Announces a domain; its disks must be attached. Raises AgentError."""
        for disk in devices.disks:
            nbd.one(disk.vdi)
        self._expected[devices.uuid] = devices

    async def migrate(self, identity: str, to: str, live: bool) -> None:
        """Moves a domain to another host; it runs on here when that fails."""
        if not live:
            raise AgentError("not_supported", "only live migration is there: save and restore else")
        domain = self._domains.one(identity)
        helper = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("relay.py"))])
        async with self._domains.doing(domain, "migrate"):
            await xl.run(
                "migrate", "-s", f"{helper} {identity}", str(domain.domid), to, timeout=MOVE
            )
        await self._domains.left(domain, "migrated")

    async def save(self, identity: str, file: Path, keep_running: bool) -> dict[str, Any]:
        """Writes a domain's memory to a file or a disk; ends the domain unless `keep_running`."""
        domain = self._domains.one(identity)
        SAVED.mkdir(parents=True, exist_ok=True)
        options = ["-c"] if keep_running else []
        async with self._domains.doing(domain, "save"):
            try:
                await xl.run("save", *options, str(domain.domid), str(file), timeout=MOVE)
            except AgentError:
                if file.is_relative_to(SAVED):
                    file.unlink(missing_ok=True)
                raise
        if not keep_running:
            await self._domains.left(domain, "suspend")
        return {"path": str(file), "bytes": file.stat().st_size}

    async def restore(self, devices: spec.Devices, file: Path, paused: bool) -> dict[str, Any]:
        """A domain as it was saved, its disks attached as they were."""
        if not file.exists():
            raise AgentError("no_such_file", f"there is no saved state {file.name}")
        async with self._domains.arriving(devices):
            domid = await self._domains.making.restore(devices, file)
            await self._domains.hotplug.settled(domid, devices)
        if not paused:
            await self._domains.unpause(devices.uuid)
        return {"domid": domid}

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, peer = await loop.sock_accept(self._listener)
            self._spawn(self._receive(connection, peer[0]))

    async def _receive(self, connection: socket.socket, peer: str) -> None:
        with connection:
            try:
                identity = await asyncio.wait_for(_greeting(connection), 10)
                devices = self._expected.pop(identity, None)
                if devices is None:
                    raise AgentError("not_expected", f"nobody announced {identity}")
                async with self._domains.hotplug.connecting_disks():
                    await self._take(connection, devices)
            except (AgentError, OSError, TimeoutError, ValueError) as error:
                report(f"a domain from {peer} did not come: {error!r}")

    async def _take(self, connection: socket.socket, devices: spec.Devices) -> None:
        async with self._domains.arriving(devices):
            connection.setblocking(True)
            await xl.run(
                "migrate-receive",
                "-e",
                timeout=MOVE,
                stdin=connection,
                stdout=connection,
                stderr=asyncio.subprocess.PIPE,
            )
        domid = self._domains.one(devices.uuid).domid
        await self._domains.hotplug.settled(domid, devices)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _greeting(connection: socket.socket) -> str:
    """The line that relay.py sends first: which domain comes. Byte by byte: the rest is xl's."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n"):
        part = await loop.sock_recv(connection, 1)
        if not part or len(line) > 100:
            raise ValueError("no greeting")
        line += part
    return line.decode().strip()
