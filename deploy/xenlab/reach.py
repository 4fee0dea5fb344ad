"""Ways from this machine into the lab's networks, once `vlan.Edge` is on them.

Connections are forwarded from loopback, since a browser is not in the lab's namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from deploy.xenlab.namespace import inside
from deploy.xenlab.plan import LabPlan

CONNECT = 10.0
"""Seconds for a connection into the network."""
LINGER = 10.0
"""Seconds that one direction goes on after the other has ended."""
PIECE = 64 * 1024


def connect(plan: LabPlan, address: str, port: int, *, timeout: float = CONNECT) -> socket.socket:
    """A TCP connection into the lab's networks; raises OSError. `timeout` in seconds, for later too."""
    with inside(plan.namespace):
        line = socket.socket()
    line.settimeout(timeout)
    try:
        line.connect((address, port))
    except OSError:
        line.close()
        raise
    return line


class Forwarder:
    """Takes TCP connections on loopback and goes on with each to one address in the lab's networks."""

    def __init__(self, plan: LabPlan, address: str, port: int) -> None:
        self._plan = plan
        self._target = (address, port)

    async def listen(self, port: int = 0) -> asyncio.Server:
        """On this port of 127.0.0.1; 0: a free one."""
        return await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.to_thread(connect, self._plan, *self._target)
            line.setblocking(False)
            there, back = await asyncio.open_connection(sock=line)
        except OSError:
            writer.close()  # as whoever listens nowhere: the client sees its connection end
            return
        ways = [
            asyncio.create_task(_pass_on(reader, back)),
            asyncio.create_task(_pass_on(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(ways, timeout=LINGER)
        finally:
            for way in ways:
                way.cancel()
            back.close()
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side has said all, or is gone."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
