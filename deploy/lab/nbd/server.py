"""The server: listens, and carries out what clients ask of the export they chose.

All of it runs on one event loop, a request at a time: when a request was refused, nothing of it is
under way, and when a connection was dropped, nothing of it will still be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass

from deploy.lab.nbd.exports import Export, Exports
from deploy.lab.nbd.handshake import Over, Streams, negotiate
from deploy.lab.nbd.protocol import (
    LARGEST_REQUEST,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    Command,
    CommandFlag,
    Error,
    NbdError,
)

log = logging.getLogger(__name__)

HANDSHAKE = 10.0
"""Seconds until a client has to have chosen."""


@dataclass(eq=False)
class Connection:
    """A client that uses an export."""

    client: str
    """The address it comes from."""
    name: str
    export: Export
    streams: Streams

    def drop(self) -> None:
        """End it now, without an answer to what it asked last."""
        self.streams[1].transport.abort()

    @property
    def is_open(self) -> bool:
        return not self.streams[1].transport.is_closing()


class NbdServer:
    """Serves `exports` on any number of listening sockets."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()
        self.connections: set[Connection] = set()

    async def listen(self, listening: socket.socket) -> None:
        """Serve on a socket that listens, which becomes the server's own."""
        self._servers.append(await asyncio.start_server(self._serve, sock=listening))

    async def stop(self) -> None:
        """Take no more connections and drop those there are."""
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    def drop(self, *, client: str | None = None, name: str | None = None) -> None:
        """Drop the connections of a client, to an export, or both."""
        for connection in list(self.connections):
            if client in (None, connection.client) and name in (None, connection.name):
                connection.drop()
                self.connections.discard(connection)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = str(writer.get_extra_info("peername")[0])
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(writer)
        try:
            async with asyncio.timeout(HANDSHAKE):
                chosen = await negotiate((reader, writer), self._exports, client)
            connection = Connection(client, *chosen, (reader, writer))
            self.connections.add(connection)
            try:
                await _transmit(connection)
            finally:
                self.connections.discard(connection)
        except (Over, TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def _transmit(connection: Connection) -> None:
    """Carry out requests until the client leaves, or breaks the protocol."""
    reader, writer = connection.streams
    while True:
        header = await reader.readexactly(REQUEST.size)
        magic, flags, command, cookie, offset, length = REQUEST.unpack(header)
        if magic != REQUEST_MAGIC or command == Command.DISC:
            return
        payload = b""
        if command == Command.WRITE:
            if length > LARGEST_REQUEST:
                return
            payload = await reader.readexactly(length)
        if not connection.is_open:
            return
        data = b""
        try:
            data = _carry_out(connection.export, command, flags, offset, length, payload)
            error = 0
        except NbdError as refused:
            error = refused.error
        writer.write(SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie))
        if data:
            writer.write(data)
        await writer.drain()
        # A client that never pauses must not keep the others waiting.
        await asyncio.sleep(0)


def _carry_out(
    export: Export, command: int, flags: int, offset: int, length: int, payload: bytes
) -> bytes:
    """What a read answers, nothing otherwise. Raises NbdError."""
    if command == Command.FLUSH:
        export.flush()
        return b""
    if offset + length > export.size:
        writes = command in (Command.WRITE, Command.WRITE_ZEROES)
        raise NbdError(Error.ENOSPC if writes else Error.EINVAL, "beyond the end")
    if command == Command.READ:
        if length > LARGEST_REQUEST:
            raise NbdError(Error.EOVERFLOW)
        return export.read(offset, length)
    if command not in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES):
        raise NbdError(Error.EINVAL, f"no command {command}")
    if export.read_only:
        raise NbdError(Error.EPERM, "read-only")
    if command == Command.WRITE:
        export.write(offset, payload)
    else:
        export.zero(offset, length, keep=bool(flags & CommandFlag.NO_HOLE))
    if flags & CommandFlag.FUA:
        export.flush()
    return b""
