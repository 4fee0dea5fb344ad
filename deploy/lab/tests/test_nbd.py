"""The NBD server against real clients: libnbd (nbdinfo, nbdsh) and QEMU (qemu-img, qemu-io)."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.lab.blocks import Blocks
from deploy.lab.nbd import protocol
from deploy.lab.nbd.exports import Export, Refused, Unknown
from deploy.lab.nbd.protocol import Error, NbdError
from deploy.lab.nbd.server import NbdServer
from deploy.lab.tests.nbd_client import NbdClient

MIB = 1024**2
LIMIT = 30.0
"""Seconds that any one client may take."""


@dataclass
class Disk:
    """A disk of the lab's block store."""

    blocks: Blocks
    name: str
    size: int = 4 * MIB
    read_only: bool = False
    may_write: bool = True
    flushed: int = 0

    def read(self, offset: int, length: int) -> bytes:
        return self.blocks.read(self.name, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        if not self.may_write:
            raise NbdError(Error.EPERM)
        self.blocks.write(self.name, offset, data)

    def zero(self, offset: int, length: int, *, keep: bool) -> None:
        if not self.may_write:
            raise NbdError(Error.EPERM)
        self.blocks.zero(self.name, offset, length)

    def flush(self) -> None:
        self.flushed += 1


@dataclass
class Disks:
    known: dict[str, Disk]
    secret: set[str] = field(default_factory=set)

    def names(self, client: str) -> Iterable[str]:
        return self.known.keys() - self.secret

    def open(self, name: str, client: str) -> Export:
        if name not in self.known:
            raise Unknown(f"no disk {name}")
        if name in self.secret:
            raise Refused(f"{client} has no right to {name}")
        return self.known[name]


@dataclass
class Served:
    server: NbdServer
    port: int
    disks: Disks
    loop: asyncio.AbstractEventLoop

    def uri(self, name: str) -> str:
        return f"nbd://127.0.0.1:{self.port}/{name}"

    def do(self, action: Callable[[], object]) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(LIMIT)


@pytest.fixture
def served() -> Iterator[Served]:
    blocks = Blocks()
    disks = Disks(
        {
            "a": Disk(blocks, "a"),
            "b": Disk(blocks, "b", size=3 * MIB + 512),
            "ro": Disk(blocks, "ro", read_only=True),
            "secret": Disk(blocks, "secret"),
        },
        {"secret"},
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = NbdServer(disks)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    asyncio.run_coroutine_threadsafe(server.listen(listening), loop).result(LIMIT)
    yield Served(server, port, disks, loop)
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(LIMIT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(LIMIT)
    loop.close()
    blocks.close()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (Debian: qemu-utils, libnbd-bin)")
    # nbdsh has to find the distribution's Python, for which libnbd is built.
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=False, env=path
    )


def shell(served: Served, name: str, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run Python lines in libnbd's shell, where `h` is a connection to the export."""
    arguments = [part for line in lines for part in ("-c", line)]
    return run("nbdsh", "-u", served.uri(name), *arguments)


# --- real clients


def test_nbdinfo_lists_what_a_client_may_see_with_sizes(served: Served) -> None:
    shown = run("nbdinfo", "--list", "--json", f"nbd://127.0.0.1:{served.port}")
    assert shown.returncode == 0, shown.stderr
    exports = {e["export-name"]: e for e in json.loads(shown.stdout)["exports"]}
    assert exports.keys() == {"a", "b", "ro"}
    assert exports["b"]["export-size"] == 3 * MIB + 512
    assert exports["ro"]["is_read_only"]
    assert all(exports["a"][f"can_{what}"] for what in ("trim", "zero", "fua", "flush"))


def test_nbdsh_writes_reads_trims_and_zeroes(served: Served) -> None:
    done = shell(
        served,
        "a",
        "h.pwrite(b'x' * 200000, 4097)",
        "h.zero(1000, 5000)",
        "h.trim(70000, 100000, nbd.CMD_FLAG_FUA)",
        "h.flush()",
        "data = h.pread(4 << 20, 0)",
        "want = bytearray(4 << 20); want[4097:204097] = b'x' * 200000",
        "want[5000:6000] = bytes(1000); want[100000:170000] = bytes(70000)",
        "assert data == bytes(want)",
    )
    assert done.returncode == 0, done.stderr
    assert served.disks.known["a"].flushed == 2


def test_the_oldest_way_to_choose_an_export_works_too(served: Served) -> None:
    done = run(
        "nbdsh",
        "-c", "h.set_opt_mode(True)",
        "-c", f"h.connect_tcp('127.0.0.1', '{served.port}')",
        "-c", "h.set_export_name('a')",
        "-c", "h.opt_go()",
        "-c", "assert h.get_size() == 4 << 20",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_qemu_img_copies_an_image_in_and_finds_it_equal(served: Served, tmp_path: Path) -> None:
    image = str(tmp_path / "disk.raw")
    Path(image).write_bytes(random.Random(3).randbytes(2 * MIB) + bytes(2 * MIB))
    target = served.uri("a")
    copied = run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, target)
    assert copied.returncode == 0, copied.stderr
    compared = run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, target)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert len(served.disks.known["a"].blocks.used_blocks("a")) == 2 * MIB // (64 * 1024)


def test_a_client_that_may_not_have_a_disk_is_told_so(served: Served) -> None:
    shown = run("qemu-img", "info", served.uri("secret"))
    assert shown.returncode != 0
    assert "127.0.0.1 has no right to secret" in shown.stderr


def test_an_unknown_export_is_refused_by_name(served: Served) -> None:
    shown = run("qemu-img", "info", served.uri("nothing"))
    assert shown.returncode != 0
    assert "no disk nothing" in shown.stderr


def test_a_read_only_export_is_not_written_even_by_a_client_that_tries(served: Served) -> None:
    done = shell(served, "ro", "h.set_strict_mode(0)", "h.pwrite(b'x', 0)")
    assert "Operation not permitted" in done.stderr
    assert served.disks.known["ro"].read(0, 1) == b"\0"


def test_requests_beyond_the_end_are_refused_and_the_connection_lives_on(served: Served) -> None:
    done = shell(
        served,
        "b",
        "h.set_strict_mode(0)",
        "import errno",
        "def refused(f, *a):\n  try: f(*a)\n  except nbd.Error as e: return e.errnum\n",
        "assert refused(h.pread, 1024, 3 << 20) == errno.EINVAL",
        "assert refused(h.pwrite, bytes(1024), 3 << 20) == errno.ENOSPC",
        "assert h.pread(512, 3 << 20) == bytes(512)",
    )
    assert done.returncode == 0, done.stderr


def test_writes_are_refused_from_the_moment_the_right_to_write_ends(served: Served) -> None:
    disk = served.disks.known["a"]
    disk.may_write = False
    done = shell(served, "a", "h.pwrite(b'late', 0)")
    assert "Operation not permitted" in done.stderr
    assert disk.read(0, 4) == bytes(4)


# --- any client


SIZE = 3 * MIB + 512
places = st.tuples(st.integers(0, SIZE - 1), st.integers(1, 300_000))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), places, st.integers(0, 255)),
        st.tuples(st.just("zero"), places, st.just(0)),
        st.tuples(st.just("trim"), places, st.just(0)),
        st.tuples(st.just("read"), places, st.just(0)),
        st.tuples(st.just("clone"), st.just((0, 1)), st.just(0)),
    ),
    max_size=12,
)


@given(steps)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_disk_behaves_as_a_plain_array_of_bytes_whatever_is_done(
    served: Served, steps: list[tuple[str, tuple[int, int], int]]
) -> None:
    blocks = served.disks.known["b"].blocks
    served.do(lambda: blocks.zero("b", 0, SIZE))
    model = bytearray(SIZE)
    codes = {"zero": protocol.Command.WRITE_ZEROES, "trim": protocol.Command.TRIM}
    frozen: dict[str, bytes] = {}
    with NbdClient("127.0.0.1", served.port, "b") as client:
        for number, (what, (offset, length), value) in enumerate(steps):
            length = min(length, SIZE - offset)
            end = offset + length
            if what == "write":
                data = bytes([value]) * length
                client.ask(protocol.Command.WRITE, offset, length, data)
                model[offset:end] = data
            elif what == "read":
                assert client.ask(protocol.Command.READ, offset, length) == model[offset:end]
            elif what == "clone":
                clone = f"clone-{number}-{len(blocks.volumes)}"
                served.do(partial(blocks.branch, "b", clone, f"below-{clone}"))
                frozen[clone] = bytes(model)
            else:
                client.ask(codes[what], offset, length)
                model[offset:end] = bytes(length)
        assert client.ask(protocol.Command.READ, 0, SIZE) == model
        for clone, expected in frozen.items():
            assert blocks.read(clone, 0, SIZE) == expected


def test_a_dropped_connection_ends_at_once_and_others_live_on(served: Served) -> None:
    with (
        NbdClient("127.0.0.1", served.port, "a") as first,
        NbdClient("127.0.0.1", served.port, "b") as other,
    ):
        served.do(lambda: served.server.drop(name="a"))
        with pytest.raises(ConnectionError):
            first.ask(protocol.Command.WRITE, 0, 4, b"late")
        assert other.ask(protocol.Command.READ, 0, 4) == bytes(4)
    assert served.disks.known["a"].read(0, 4) == bytes(4)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n" + bytes(40),
        struct.pack(">I8sII", 3, protocol.IHAVEOPT, protocol.Option.GO, 2**31),
        struct.pack(">I8sII", 1 << 31, protocol.IHAVEOPT, protocol.Option.GO, 0),
        struct.pack(">I8sII", 3, b"IHAVENOT", protocol.Option.GO, 0),
    ],
)
def test_what_is_not_the_protocol_is_hung_up_on(served: Served, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), LIMIT) as connection:
        connection.sendall(garbage)
        while connection.recv(4096):
            pass
    with NbdClient("127.0.0.1", served.port, "a") as client:
        assert client.ask(protocol.Command.READ, 0, 4) == bytes(4)


def test_a_request_for_more_than_the_largest_is_refused_or_hung_up_on(served: Served) -> None:
    served.disks.known["a"].size = 1 << 40
    with NbdClient("127.0.0.1", served.port, "a") as client:
        with pytest.raises(OSError, match="refused"):
            client.ask(protocol.Command.READ, 0, protocol.LARGEST_REQUEST + 1)
        with pytest.raises(ConnectionError):
            client.ask(protocol.Command.WRITE, 0, protocol.LARGEST_REQUEST + 1, b"x")


def test_zeroing_a_huge_disk_takes_no_longer_than_what_is_on_it(served: Served) -> None:
    disk = served.disks.known["a"]
    disk.size = 1 << 40
    with NbdClient("127.0.0.1", served.port, "a") as client:
        client.ask(protocol.Command.WRITE, 1 << 39, 4, b"data")
        for start in range(0, 1 << 40, 1 << 31):
            client.ask(protocol.Command.TRIM, start, 1 << 31)
    assert disk.blocks.used_blocks("a") == []
