"""The pool on hosts that run Xen: one guest's life, with its disk, its console and its moves.

The hosts are emulated; without what they need the tests are skipped.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.lab.samples import MIB
from deploy.lab.tests.on_xen import lab_on
from deploy.lab.tests.vms import Vms, vms_of
from deploy.xenlab.lab import XenLab
from deploy.xenlab.tests.conftest import xen_lab

__all__ = ["xen_lab"]

pytestmark = [pytest.mark.alone, pytest.mark.timeout(900)]

LIMIT = 240.0
"""Seconds: a machine that emulates Xen beside other work is slow."""
PATIENCE = 30.0


@pytest.fixture
def vms(xen_lab: XenLab) -> Iterator[Vms]:
    with lab_on(xen_lab, tls=False) as lab, vms_of(lab) as vms:
        yield vms
        vms.clear()


class Console:
    """A VM's text console, on the host where it runs."""

    def __init__(self, vms: Vms, vm: str) -> None:
        location = next(
            record["location"]
            for record in vms.api.console.get_all_records().values()
            if record["VM"] == vm and record["protocol"] == "vt100"
        )
        place, _, query = location.removeprefix("https://").partition("/")
        host, _, port = place.partition(":")
        self.seen = b""
        self._socket = socket.create_connection((host, int(port)), LIMIT)
        line = f"CONNECT /{query}&session_id={vms.session._session} HTTP/1.0\r\n\r\n"
        self._socket.sendall(line.encode())

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            part = self._socket.recv(4096)
            assert part, f"the console ended after {self.seen[-500:]!r}"
            self.seen += part
        self.seen = self.seen.partition(text)[2]

    def type(self, line: bytes, *, until: Callable[[], Any]) -> None:
        """… and again when nothing comes of it: what is typed while a domain arrives may be lost."""
        deadline, patience = time.monotonic() + LIMIT, 0.0
        while not until():
            now = time.monotonic()
            assert now < deadline, f"nothing came of {line!r}"
            if now > patience:
                self._socket.sendall(line + b"\n")
                patience = now + PATIENCE
            time.sleep(0.2)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.2)


def test_a_guest_lives_moves_sleeps_and_loses_its_host(vms: Vms) -> None:
    vm = vms.vm(memory=96 * MIB)
    vdi = vms.disk(vms.shared_storage())
    vms.give_disk(vm, vdi)
    uuid = str(vms.api.VDI.get_uuid(vdi))
    vms.lab.do(lambda lab: lab.storage.blocks.write(uuid, 0, b"from the lab----"))

    def wrote() -> bool:
        """Whether the guest has written since it was last asked, by the lab's own disk."""
        found = bool(vms.lab.do(lambda lab: lab.storage.blocks.read(uuid, 4096, 5)) == b"wrote")
        if found:
            vms.lab.do(lambda lab: lab.storage.blocks.zero(uuid, 4096, 4096))
        return found

    vms.api.VM.start_on(vm, vms.hosts["h1"], False, False)
    with Console(vms, vm) as console:
        console.until(b"GUEST-DISK from the lab----")
        console.until(b"GUEST-UP")
        console.type(b"write", until=wrote)
    until(lambda: vms.api.VM.get_xenstore_data(vm).get("vm-data/up") == "yes")
    until(lambda: vms.api.VM_guest_metrics.get_other(vms.api.VM.get_guest_metrics(vm)))
    vms.api.VM.pool_migrate(vm, vms.hosts["h2"], {"live": "true"})
    assert vms.where(vm) == "h2"
    with Console(vms, vm) as console:
        console.type(b"write", until=wrote)
    assert vms.lab.do(lambda lab: sorted(lab.storage.attachments.writers(uuid))) == ["h2"]

    vms.api.VM.suspend(vm)
    assert vms.state(vm) == "Suspended"
    vms.api.VM.resume_on(vm, vms.hosts["h1"], False, False)
    with Console(vms, vm) as console:
        console.type(b"write", until=wrote)
    until(lambda: vms.api.VM.get_data_sources(vm))

    vms.lab.wait(_cut(vms, "h2"), LIMIT)
    vms.lab.do(lambda lab: lab.machine("h2").power_on())
    vms.api.VM.pause(vm)
    vms.api.VM.unpause(vm)
    with Console(vms, vm) as console:
        console.type(b"off", until=lambda: vms.state(vm) == "Halted")
    # What its record says of a host without power is what it was before.
    until(lambda: vms.lab.do(lambda lab: lab.machine("h2").toolstack))
    assert vms.lab.do(lambda lab: lab.detector.violations) == []


async def _cut(vms: Vms, host: str) -> None:
    await vms.lab.lab.power.cut(vms.lab.lab.machine(host))
