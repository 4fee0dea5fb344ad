"""What tests do with domains of the lab's hosts: make one, read its console, ask it over HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.xenlab.client import Agent, connect
from deploy.xenlab.lab import XenLab
from deploy.xenlab.namespace import inside
from deploy.xenlab.plan import GATEWAY, HostPlan, LabPlan

# Seconds; an emulated machine that shares its processor may be slow.
LIMIT = 120.0
NBD_PORT = 10809


@dataclass
class Guest:
    """A domain of the test guest, known before it runs."""

    lab: XenLab
    number: int
    locked: bool = True
    disk: str = ""
    bridge: str = "xenbr0"
    subnet: str = "10.77.0"

    def __post_init__(self) -> None:
        self.uuid = str(uuid.uuid4())

    @property
    def address(self) -> str:
        return f"{self.subnet}.{self.number}"

    @property
    def mac(self) -> str:
        return f"00:16:3e:77:00:{self.number:02x}"

    @property
    def devices(self) -> dict[str, Any]:
        vif = {"device": 0, "mac": self.mac, "bridge": self.bridge, "locked": self.locked}
        disks = [{"device": 0, "vdi": self.disk, "read_only": False}] if self.disk else []
        return {
            "uuid": self.uuid,
            "disks": disks,
            "vifs": [{**vif, "ipv4": [self.address], "ipv6": []}],
        }

    def create(
        self,
        agent: Agent,
        kind: str = "pvh",
        *,
        paused: bool = False,
        **changes: Any,
    ) -> None:
        arguments = {
            **self.devices,
            "memory_mib": 96,
            "vcpus": 1,
            "type": kind,
            "kernel": "/boot/guest/vmlinux",
            "ramdisk": "/boot/guest/initramfs",
            "args": f"console=hvc0 quiet mitigations=off address={self.address}",
            "xenstore": {"vm-data/told": "by the host"},
            "paused": paused,
        }
        agent.call("create", **{**arguments, **changes})

    def boot_id(self) -> str:
        """What the guest answers over HTTP."""
        with inside(self.lab.plan.namespace):
            connection = socket.socket()
        with connection:
            connection.settimeout(20)
            connection.connect((self.address, 80))
            connection.sendall(b"GET /cgi-bin/boot HTTP/1.0\r\n\r\n")
            answer = b""
            while data := connection.recv(4096):
                answer += data
        return answer.split()[-1].decode()


class Terminal:
    """A guest's console; use it as a context."""

    def __init__(self, lab: XenLab, host: HostPlan, domain: str) -> None:
        self._socket = connect(lab.plan, host, timeout=LIMIT)
        self._socket.sendall(json.dumps({"console": domain}).encode() + b"\n")
        self.seen = b""
        try:
            self.wait_for('{"ok": true}\n')
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait_for(self, text: str) -> str:
        """Reads until the text has come; everything that came so far."""
        while text.encode() not in self.seen:
            data = self._socket.recv(65536)
            assert data, f"the console closed before {text!r}: {self.seen[-1000:]!r}"
            self.seen += data
        return self.seen.decode(errors="replace")

    def type(self, line: str) -> None:
        self._socket.sendall(line.encode() + b"\n")


@contextmanager
def disk_server(lab: XenLab, file: Path, export: str, port: int = NBD_PORT) -> Iterator[None]:
    """qemu-nbd, serving a file on the lab's bridge until the end of the context."""
    command = ["ip", "netns", "exec", lab.plan.namespace, "qemu-nbd", "-t", "-e", "8", "-x", export]
    server = subprocess.Popen([*command, "-f", "raw", "-b", GATEWAY, "-p", str(port), str(file)])
    try:
        wait_until(lambda: listens(lab.plan, port))
        yield
    finally:
        server.terminate()
        server.wait(timeout=20)


def listens(plan: LabPlan, port: int) -> bool:
    """Whether something listens on the bridge's address."""
    with inside(plan.namespace):
        connection = socket.socket()
    with connection:
        return connection.connect_ex((GATEWAY, port)) == 0


def runs(pid: int | None) -> bool:
    """Whether a process runs; one that ended and was not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def attach(agent: Agent, disk: str) -> None:
    export = {"host": GATEWAY, "port": NBD_PORT, "export": disk, "read_only": False}
    agent.call("disk_attach", vdi=disk, **export)


def wait_until(condition: Callable[[], bool], seconds: float = LIMIT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
