"""How a connection begins: the client asks about exports and chooses one."""

from __future__ import annotations

import asyncio
import struct

from deploy.lab.nbd.exports import Export, Exports, Refused, Unknown
from deploy.lab.nbd.protocol import (
    IHAVEOPT,
    LARGEST_OPTION,
    LARGEST_REQUEST,
    LONGEST_NAME,
    NBDMAGIC,
    OPTION,
    OPTION_REPLY,
    PREFERRED_BLOCK,
    REPLY_MAGIC,
    HandshakeFlag,
    Info,
    Option,
    Reply,
    TransmissionFlag,
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Over(Exception):
    """The client leaves, or does not speak the protocol: the connection is closed."""


async def negotiate(streams: Streams, exports: Exports, client: str) -> tuple[str, Export]:
    """The export (name, disk) that the client chose. Raises Over."""
    reader, writer = streams
    flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
    writer.write(NBDMAGIC + IHAVEOPT + struct.pack(">H", flags))
    await writer.drain()
    (client_flags,) = struct.unpack(">I", await reader.readexactly(4))
    if client_flags & ~int(flags) or not client_flags & HandshakeFlag.FIXED_NEWSTYLE:
        raise Over
    while True:
        magic, option, length = OPTION.unpack(await reader.readexactly(OPTION.size))
        if magic != IHAVEOPT or length > 64 * LARGEST_OPTION:
            raise Over
        data = await reader.readexactly(length)
        if option == Option.EXPORT_NAME:
            chosen = _open(data, exports, client)
            padded = not client_flags & HandshakeFlag.NO_ZEROES
            size_and_flags = struct.pack(">QH", chosen[1].size, _flags(chosen[1]))
            writer.write(size_and_flags + (bytes(124) if padded else b""))
            await writer.drain()
            return chosen
        answer = _Answer(writer, option)
        if option == Option.ABORT:
            answer.send(Reply.ACK)
            await writer.drain()
            raise Over
        found = _answer(answer, data, exports, client)
        await writer.drain()
        if found is not None:
            return found


class _Answer:
    """Replies to one option."""

    def __init__(self, writer: asyncio.StreamWriter, option: int) -> None:
        self.writer = writer
        self.option = option

    def send(self, reply: Reply, data: bytes = b"") -> None:
        self.writer.write(OPTION_REPLY.pack(REPLY_MAGIC, self.option, reply, len(data)) + data)


def _answer(
    answer: _Answer, data: bytes, exports: Exports, client: str
) -> tuple[str, Export] | None:
    """Answer an option other than ABORT; the export when the client goes on with one."""
    if len(data) > LARGEST_OPTION:
        answer.send(Reply.ERR_TOO_BIG)
    elif answer.option == Option.LIST:
        if data:
            answer.send(Reply.ERR_INVALID, b"LIST takes no data")
            return None
        for name in exports.names(client):
            text = name.encode()
            answer.send(Reply.SERVER, struct.pack(">I", len(text)) + text)
        answer.send(Reply.ACK)
    elif answer.option in (Option.INFO, Option.GO):
        return _inform(answer, data, exports, client)
    else:
        answer.send(Reply.ERR_UNSUP)
    return None


def _inform(
    answer: _Answer, data: bytes, exports: Exports, client: str
) -> tuple[str, Export] | None:
    try:
        name, wanted = _parse(data)
    except (struct.error, ValueError) as error:
        answer.send(Reply.ERR_INVALID, str(error).encode())
        return None
    try:
        export = exports.open(name, client)
    except Unknown as error:
        answer.send(Reply.ERR_UNKNOWN, str(error).encode())
        return None
    except Refused as error:
        answer.send(Reply.ERR_POLICY, str(error).encode())
        return None
    answer.send(Reply.INFO, struct.pack(">HQH", Info.EXPORT, export.size, _flags(export)))
    if Info.NAME in wanted:
        answer.send(Reply.INFO, struct.pack(">H", Info.NAME) + name.encode())
    if Info.BLOCK_SIZE in wanted:
        sizes = struct.pack(">HIII", Info.BLOCK_SIZE, 1, PREFERRED_BLOCK, LARGEST_REQUEST)
        answer.send(Reply.INFO, sizes)
    answer.send(Reply.ACK)
    return (name, export) if answer.option == Option.GO else None


def _parse(data: bytes) -> tuple[str, set[int]]:
    """Name and wanted pieces of information of INFO or GO. Raises struct.error, ValueError."""
    (length,) = struct.unpack_from(">I", data)
    if length > LONGEST_NAME or len(data) < 6 + length:
        raise ValueError("the name is too long")
    name = data[4 : 4 + length].decode()
    (count,) = struct.unpack_from(">H", data, 4 + length)
    if len(data) != 6 + length + 2 * count:
        raise ValueError("the length does not fit what is in it")
    return name, set(struct.unpack_from(f">{count}H", data, 6 + length))


def _open(data: bytes, exports: Exports, client: str) -> tuple[str, Export]:
    """EXPORT_NAME knows no answer but the export or the connection's end."""
    try:
        name = data.decode()
        return name, exports.open(name, client)
    except (UnicodeDecodeError, Unknown, Refused) as error:
        raise Over from error


def _flags(export: Export) -> int:
    always = TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH | TransmissionFlag.SEND_FUA
    if export.read_only:
        return always | TransmissionFlag.READ_ONLY
    return always | TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES
