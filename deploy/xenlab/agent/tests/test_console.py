from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.xenlab.agent.console import KEPT, Console


@dataclass
class Guest:
    """xenconsoled's end of the terminal."""

    end: int
    path: str


@pytest.fixture
def guest() -> Iterator[Guest]:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    yield Guest(master, os.ttyname(slave))
    os.close(slave)
    os.close(master)


class Reader:
    """A connection that takes what is written to it."""

    def __init__(self) -> None:
        self.seen = bytearray()

    def write(self, data: bytes) -> None:
        self.seen += data

    async def drain(self) -> None:
        return


async def until(reader: Reader, end: bytes) -> None:
    async with asyncio.timeout(10):
        while not reader.seen.endswith(end):
            await asyncio.sleep(0)


async def test_a_late_reader_sees_the_past_and_then_what_comes(guest: Guest) -> None:
    console = Console(guest.path)
    early, late = Reader(), Reader()
    following = asyncio.create_task(console.follow(early))
    os.write(guest.end, b"before\r\n")
    await until(early, b"before\r\n")
    second = asyncio.create_task(console.follow(late))
    await until(late, b"before\r\n")
    os.write(guest.end, b"after\xff")
    await until(late, b"after\xff")
    assert bytes(late.seen) == b"before\r\nafter\xff"
    console.close()
    await asyncio.gather(following, second)


async def test_only_the_last_64_kib_are_kept(guest: Guest) -> None:
    console = Console(guest.path)
    early, late = Reader(), Reader()
    following = asyncio.create_task(console.follow(early))
    sent = bytearray()
    for number in range(100):
        chunk = bytes([65 + number % 26]) * 1000
        os.write(guest.end, chunk)
        sent += chunk
        await until(early, bytes(chunk))
        while len(early.seen) < len(sent):
            await asyncio.sleep(0)
    second = asyncio.create_task(console.follow(late))
    await until(late, bytes(sent[-10:]))
    assert early.seen == sent
    assert late.seen == sent[-KEPT:]
    console.close()
    await asyncio.gather(following, second)


async def test_what_is_typed_reaches_the_guest_unchanged(guest: Guest) -> None:
    console = Console(guest.path)
    await console.write(b"\x03\x04hello\n")
    assert os.read(guest.end, 100) == b"\x03\x04hello\n"
    console.close()


async def test_readers_end_with_the_console_and_have_all_of_it(guest: Guest) -> None:
    console = Console(guest.path)
    reader = Reader()
    following = asyncio.create_task(console.follow(reader))
    await asyncio.sleep(0)
    os.write(guest.end, b"last words")
    console.close()
    await asyncio.wait_for(following, 10)
    assert bytes(reader.seen) == b"last words"
