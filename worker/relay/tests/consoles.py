"""A pool's consoles in memory: real sockets, so that a selector can wait for them."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from worker.hypervisor.port import ByteStream, ConsoleRecord, Gone, HypervisorError, VmRecord


class Stream:
    """One end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)

    def recv(self, size: int, /) -> bytes:
        return self._end.recv(size)

    def recv_nowait(self, size: int, /) -> bytes | None:
        try:
            return self._end.recv(size)
        except BlockingIOError:
            return None

    def sendall(self, data: bytes, /) -> None:
        self._end.sendall(data)

    def send_nowait(self, data: bytes, /) -> int:
        try:
            return self._end.send(data)
        except BlockingIOError:
            return 0

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()


@dataclass
class Screen:
    """A VM's console: what it has shown, and whether it shows that again to who comes later."""

    record: VmRecord
    replays: bool = False
    shown: bytes = b""
    ends: list[socket.socket] = field(default_factory=list)

    def show(self, data: bytes) -> None:
        self.shown += data
        for end in list(self.ends):
            try:
                end.sendall(data)
            except BrokenPipeError:
                self.ends.remove(end)
                end.close()

    def said(self) -> bytes:
        """What its readers wrote since this was asked last."""
        said = b""
        for end in self.ends:
            end.setblocking(False)
            try:
                said += end.recv(65536)
            except OSError:
                continue
        return said

    def hang_up(self) -> None:
        for end in self.ends:
            end.close()
        self.ends.clear()


class Consoles:
    """As much of a hypervisor as the relay needs."""

    def __init__(self) -> None:
        self.screens: dict[UUID, Screen] = {}
        self.error: HypervisorError | None = None
        self.asked = 0

    def add(self, vm: UUID, **given: object) -> Screen:
        record = VmRecord(vm, "vm", "Running")
        screen = self.screens[vm] = Screen(record, **given)  # type: ignore[arg-type]
        return screen

    def vm(self, vm: UUID) -> VmRecord:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if vm not in self.screens:
            raise Gone("gone")
        return self.screens[vm].record

    def consoles(self, vm: UUID) -> tuple[ConsoleRecord, ...]:
        return tuple(
            ConsoleRecord(uuid4(), vm, protocol, "https://192.0.2.1/console")
            for protocol in ("rfb", "vt100")
        )

    def open_console(self, console: ConsoleRecord, timeout: timedelta) -> ByteStream:
        screen = self.screens[console.vm]
        ours, theirs = socket.socketpair()
        screen.ends.append(theirs)
        if screen.replays:
            theirs.sendall(screen.shown)
        return Stream(ours)

    def close(self) -> None:
        for screen in self.screens.values():
            screen.hang_up()


def since(moment: datetime, vm: UUID, host: UUID | None = None) -> VmRecord:
    return VmRecord(vm, "vm", "Running", resident_on=host, started_at=moment)
