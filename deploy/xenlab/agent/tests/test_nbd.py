from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deploy.xenlab.agent import nbd, netlink
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


# --- attaching: the kernel's part is in files, and in a function that answers as it does


class Kernel:
    """`asked`: of which devices the agent looked at what they are. `refuses`: the next command."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder
        self.asked: list[int] = []
        self.refuses = False
        for index in range(devices):
            (folder / f"nbd{index}").mkdir(parents=True)

    def take(self, index: int, export: nbd.Export) -> None:
        device = self.folder / f"nbd{index}"
        device.mkdir(exist_ok=True)
        (device / "pid").write_text("1\n")
        (device / "backend").write_text(json.dumps(asdict(export)) + "\n")

    def ask(self, family: str, command: int, *given: bytes) -> list[bytes]:
        assert family == "nbd"
        if self.refuses:
            raise PermissionError
        told = {kind: value for one in given for kind, value in netlink.attributes(one)}
        if command == nbd.DISCONNECT:
            device = self.folder / f"nbd{struct.unpack('=I', told[nbd.INDEX])[0]}"
            (device / "pid").unlink()
            (device / "backend").unlink()
            return []
        assert command == nbd.CONNECT
        index = next(n for n in range(999) if not (self.folder / f"nbd{n}/pid").exists())
        self.take(index, nbd.Export(**json.loads(told[nbd.BACKEND].rstrip(b"\0"))))
        return [netlink.attribute(nbd.INDEX, struct.pack("=I", index))]

    def taken(self) -> int:
        return len(list(self.folder.glob("nbd*/pid")))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "block", devices=64)

    async def connect(export: nbd.Export, timeout: float) -> tuple[socket.socket, int, int]:
        # As a server's answer does: lets everybody else go first.
        await asyncio.sleep(0.01)
        return socket.socket(), 1 << 20, 0

    def at(index: int) -> nbd.Attached | None:
        kernel.asked.append(index)
        return look(index)

    look = nbd.at
    monkeypatch.setattr(nbd, "SYSTEM", kernel.folder)
    monkeypatch.setattr(nbd, "LINKS", tmp_path / "links")
    monkeypatch.setattr(nbd, "_connect", connect)
    monkeypatch.setattr(nbd, "at", at)
    monkeypatch.setattr(netlink, "ask", kernel.ask)
    nbd.adopt()
    kernel.asked.clear()
    return kernel


def export_of(vdi: str) -> nbd.Export:
    return nbd.Export(vdi, "10.77.0.1", 10809, vdi, read_only=False)


async def attach(vdi: str) -> nbd.Attached:
    return await nbd.attach(export_of(vdi), timeout=10, dead_timeout=10)


async def test_a_disk_is_attached_found_and_given_up(kernel: Kernel) -> None:
    disk = await attach("a")
    assert nbd.attached() == [disk] == [nbd.one("a")]
    assert Path(disk.path).readlink() == Path("/dev/nbd0")
    assert await attach("a") == disk
    nbd.detach("a")
    nbd.detach("a")
    assert nbd.attached() == []
    with pytest.raises(AgentError) as missing:
        nbd.one("a")
    assert missing.value.code == "disk_not_attached"


async def test_no_look_at_a_disk_goes_through_all_devices(kernel: Kernel) -> None:
    first, second = await attach("a"), await attach("b")
    nbd.detach("a")
    await attach("a")
    nbd.attached()
    assert set(kernel.asked) == {first.index, second.index}


async def test_disks_attached_at_once_have_devices_of_their_own(kernel: Kernel) -> None:
    disks = await asyncio.gather(*(attach(f"disk{n}") for n in range(70)))
    assert {disk.index for disk in disks} == set(range(70))
    assert nbd.attached() == disks


async def test_a_disk_asked_for_twice_at_once_is_attached_once(kernel: Kernel) -> None:
    one, other = await asyncio.gather(attach("a"), attach("a"))
    assert one == other
    assert kernel.taken() == 1


async def test_a_disk_is_not_attached_in_two_ways_not_even_at_once(kernel: Kernel) -> None:
    elsewhere = nbd.attach(replace(export_of("a"), port=1), timeout=10, dead_timeout=10)
    done = await asyncio.gather(attach("a"), elsewhere, return_exceptions=True)
    (refused,) = (one for one in done if isinstance(one, AgentError))
    assert refused.code == "disk_attached"
    assert kernel.taken() == 1


async def test_a_link_to_what_is_no_more_or_another_disks_is_not_believed(kernel: Kernel) -> None:
    disk = await attach("a")
    (nbd.LINKS / "gone").symlink_to("/dev/nbd5")
    (nbd.LINKS / "b").symlink_to(f"/dev/{disk.device}")
    assert nbd.attached() == [disk]
    assert (await attach("b")).index != disk.index


def test_an_agent_that_starts_finds_what_one_before_it_attached(kernel: Kernel) -> None:
    kernel.take(3, export_of("linked"))
    (nbd.LINKS / "linked").symlink_to("/dev/nbd3")
    kernel.take(7, export_of("unlinked"))
    (nbd.LINKS / "elsewhere").symlink_to("/dev/nbd9")
    kernel.take(8, export_of("elsewhere"))
    nbd.adopt()
    found = [(one.index, one.export.vdi) for one in nbd.attached()]
    assert found == [(3, "linked"), (7, "unlinked"), (8, "elsewhere")]


async def test_a_disk_that_the_kernel_keeps_is_not_lost_sight_of(kernel: Kernel) -> None:
    disk = await attach("a")
    kernel.refuses = True
    with pytest.raises(PermissionError):
        nbd.detach("a")
    assert nbd.attached() == [disk]


async def test_a_disk_that_cannot_be_linked_is_given_back(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(disk: nbd.Attached) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(nbd, "_link", refuse)
    with pytest.raises(OSError, match="no space"):
        await attach("a")
    assert kernel.taken() == 0
