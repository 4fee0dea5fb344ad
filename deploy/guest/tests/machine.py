"""A guest in plain QEMU (emulated, so it runs anywhere), spoken to over its serial console."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.relay.execs import Command, Execs
from worker.relay.protocol import Frame, Plain
from worker.relay.session import Session

ARGUMENTS = "console=ttyS0 console=hvc0 panic=1 net.ifnames=0 quiet"
BOOT_SECONDS = 90.0
EXEC_SECONDS = 20.0


class Slow(AssertionError):
    """It did not come in time; with what the console showed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Machine:
    """One VM with these disks; `firmware`: as QEMU's arguments; without it `boot`'s kernel is started directly.

    A `blank` one has its disks and its network card only once they are plugged.
    """

    def __init__(
        self,
        disks: Sequence[tuple[Path, bool]],
        boot: Path | None = None,
        firmware: Sequence[str] = (),
        memory: int = 160,
        blank: bool = False,
    ) -> None:
        self.port = free_port()
        self.session = Session()
        self.frames: list[Frame] = []
        self.plain = b""
        self._is_silent = False
        self._is_ordered = False
        self.execs = Execs(self.session)
        self._serial, theirs = socket.socketpair()
        self._control, their_control = socket.socketpair()
        argv = [
            *("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", str(memory)),
            *("-nodefaults", "-vga", "none", "-display", "none", "-no-reboot"),
            *("-chardev", f"socket,id=s,fd={theirs.fileno()}", "-serial", "chardev:s"),
            *("-chardev", f"socket,id=q,fd={their_control.fileno()}"),
            *("-mon", "chardev=q,mode=control"),
            *("-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:8080"),
            *firmware,
        ]
        self._devices = ["driver=virtio-net-pci,id=nic,netdev=n,romfile=,mac=02:00:00:00:00:07"]
        for number, (path, read_only) in enumerate(disks):
            argv += ["-drive", f"if=none,id=d{number},file={path},format=raw,cache=unsafe"]
            argv[-1] += ",readonly=on" if read_only else ""
            self._devices.append(
                f"driver=virtio-blk-pci,id=disk{number},drive=d{number},bootindex={number + 1}"
            )
        for device in [] if blank else self._devices:
            argv += ["-device", device.removeprefix("driver=")]
        if boot is not None:
            argv += ["-kernel", str(boot / "vmlinuz"), "-initrd", str(boot / "initramfs")]
            argv += ["-append", ARGUMENTS + (" bulkhead.blank" if blank else "")]
        self._process = subprocess.Popen(
            argv,
            pass_fds=[theirs.fileno(), their_control.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        their_control.close()
        self._serial.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(timeout=10)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._serial.close()
        self._control.close()

    @property
    def is_on(self) -> bool:
        return self._process.poll() is None

    def written(self, kind: str) -> str:
        """All that came of this kind from the container: "o" stdout, "e" stderr, "n" init's own lines."""
        parts = [
            frame.data + (b"" if frame.goes_on else b"\n")
            for frame in self.frames
            if frame.kind == kind
        ]
        return b"".join(parts).decode(errors="replace")

    def _pump(self) -> None:
        now = time.monotonic()
        self.execs.settle(now)
        out = self.session.outgoing(now)
        if out and self.is_on:
            self._serial.setblocking(True)
            self._serial.settimeout(5)
            try:
                self._serial.sendall(out)
            except OSError:
                return
            finally:
                self._serial.setblocking(False)
        if not select.select([self._serial], [], [], 0.1)[0]:
            return
        try:
            data = self._serial.recv(65536)
        except OSError:
            data = b""
        self._is_silent = not data
        for event in self.session.feed(data, now):
            if self.execs.hear(event):
                continue
            if isinstance(event, Frame):
                self.frames.append(event)
                self.session.keep(event.channel, event.seq)
            elif isinstance(event, Plain):
                self.plain += event.data

    def until(
        self, condition: Callable[[], bool], what: str, seconds: float = BOOT_SECONDS
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Slow(f"{what}: {self.transcript()}")
            self._pump()

    def transcript(self) -> str:
        shown = [self.plain.decode(errors="replace")[-2000:]]
        return "".join(shown + [self.written(kind)[-2000:] for kind in "noe"])

    def ended(self) -> str:
        """How its container ended, as init says once it has powered off: "code 0"."""
        self.until(lambda: not self.is_on, "it does not power off")
        mark = "bulkhead: the container has ended: "
        self.until(lambda: self._is_silent, "its console does not end", 10)
        for line in (self.written("n") + self.plain.decode(errors="replace")).splitlines():
            if line.strip().startswith(mark):
                return line.strip().removeprefix(mark)
        raise AssertionError(f"no end was told: {self.transcript()}")

    def ask_http(self, path: str = "/") -> str:
        """The first answer to GET, however long it takes to come."""
        answer = ""

        def has_answer() -> bool:
            nonlocal answer
            if not self.is_on:
                raise AssertionError(f"it ended: {self.transcript()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as link:
                    link.sendall(f"GET {path} HTTP/1.0\r\nHost: guest\r\n\r\n".encode())
                    answer = b"".join(iter(lambda: link.recv(4096), b"")).decode()
            except OSError:
                return False
            return answer.startswith("HTTP/1")

        self.until(has_answer, "no HTTP answer")
        return answer

    def execute(
        self,
        *argv: str,
        user: str = "",
        cwd: str = "",
        env: Mapping[str, str] = {},
        tty: bool = False,
    ) -> tuple[int, str]:
        """Run it beside the container's process: exit status as a shell has it, and what it wrote.

        Raises ExecRefused.
        """
        self.until(lambda: self.session.is_greeted, "it does not speak")
        one = self.execs.open(Command(argv, env, cwd, user, tty, 24, 80))
        said = b""

        def is_over() -> bool:
            nonlocal said
            said += b"".join(data for _, data in one.read())
            return one.is_over

        self.until(is_over, f"{argv} does not end", EXEC_SECONDS)
        is_over()
        self._pump()
        assert one.exit is not None
        return one.exit.code + (128 if one.exit.how == "signal" else 0), said.decode()

    def press_control_alt_delete(self) -> None:
        """What a management console does to have it reboot cleanly."""
        keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
        self._order({"execute": "send-key", "arguments": {"keys": keys}})

    def plug(self) -> None:
        """Give a blank one its devices: disks in their order, by which the guest's kernel names them."""
        nic, *disks = self._devices
        for device in (*disks, nic):
            words = dict(part.split("=", 1) for part in device.split(","))
            places = {name: int(words.pop(name)) for name in ("bootindex",) if name in words}
            self._order({"execute": "device_add", "arguments": {**words, **places}})

    def _order(self, order: Mapping[str, object]) -> None:
        for one in (*([] if self._is_ordered else [{"execute": "qmp_capabilities"}]), order):
            self._control.sendall(json.dumps(one).encode() + b"\n")
        self._is_ordered = True
