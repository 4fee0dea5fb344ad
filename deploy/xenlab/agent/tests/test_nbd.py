from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable

import pytest

from deploy.xenlab.agent import nbd
from deploy.xenlab.agent.errors import AgentError

GREETING = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 3)


def reply(kind: int, payload: bytes) -> bytes:
    return struct.pack(">QIII", nbd.REPLY_MAGIC, nbd.GO, kind, len(payload)) + payload


async def shaken(answer: Callable[[str], bytes], greeting: bytes = GREETING) -> tuple[int, int]:
    """The size and flags that the client finds, with a server that answers NBD_OPT_GO so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if greeting == GREETING:
            await negotiate(reader, writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        ended.set()

    async def negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flags, magic, option, length = struct.unpack(">I8sII", await reader.readexactly(20))
        assert (flags, magic, option) == (3, b"IHAVEOPT", nbd.GO)
        body = await reader.readexactly(length)
        name = body[4 : 4 + struct.unpack_from(">I", body)[0]]
        writer.write(answer(name.decode()))

    ended = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        export = nbd.Export("disk", "127.0.0.1", port, "the-export", read_only=False)
        try:
            connection, size, flags = await nbd._connect(export, timeout=10)
            connection.close()
        finally:
            await asyncio.wait_for(ended.wait(), 10)
        return size, flags


async def test_the_handshake_finds_an_exports_size_and_flags() -> None:
    asked = []

    def answer(name: str) -> bytes:
        asked.append(name)
        size_and_flags = struct.pack(">HQH", 0, 1 << 40, 0x0D)
        return reply(nbd.INFORMATION, size_and_flags) + reply(nbd.ACKNOWLEDGED, b"")

    assert await shaken(answer) == (1 << 40, 0x0D)
    assert asked == ["the-export"]


async def test_a_servers_refusal_is_told_in_its_words() -> None:
    with pytest.raises(AgentError, match="no right to it") as refused:
        await shaken(lambda _: reply((1 << 31) + 2, b"no right to it"))
    assert refused.value.code == "disk_refused"


async def test_what_is_no_nbd_server_is_refused() -> None:
    with pytest.raises(AgentError, match="no NBD server") as refused:
        await shaken(lambda _: b"", greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert refused.value.code == "disk_refused"


async def test_a_server_that_is_not_there_is_told_apart() -> None:
    export = nbd.Export("disk", "127.0.0.1", 1, "x", read_only=False)
    with pytest.raises(AgentError) as failed:
        await nbd._connect(export, timeout=10)
    assert failed.value.code == "disk_unreachable"
