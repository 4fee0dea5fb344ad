"""Guests that are told by a disk what they run tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deploy.lab.programs import PIECE, Program, program_of
from deploy.lab.testing import running_lab
from deploy.lab.tests.vms import Vms, vms_of

SPEC = {
    "hostname": "shop",
    "argv": ["/bin/serve", "--port", "80"],
    "env": {"PATH": "/bin", "KEY": "secret"},
    "cwd": "/srv",
    "user": "1000:1000",
}


@pytest.fixture
def vms() -> Iterator[Vms]:
    with running_lab(2, tls=False, rate=0.0, config_disk=1) as lab, vms_of(lab) as vms:
        lab.clock.set_rate(100.0)
        yield vms


def told(vms: Vms, document: bytes, device: int = 1, guest: str = "") -> str:
    """A VM with `document` at the start of that disk."""
    vm, vdi = vms.vm(guest=guest), vms.disk(vms.shared_storage())
    vms.give_disk(vm, vdi, userdevice=str(device))
    vms.lab.do(lambda lab: lab.storage.write(lab.db.get("VDI", vdi), 0, document))
    return vm


def output(vms: Vms, vm: str, host: str = "h2") -> list[str]:
    uuid = vms.api.VM.get_uuid(vm)
    return vms.lab.do(
        lambda lab: lab.machine(host).domains[uuid].console.output.decode().splitlines()
    )


def started(vms: Vms, vm: str) -> None:
    vms.api.VM.start_on(vm, vms.hosts["h2"], False, False)
    vms.lab.clock.set_rate(0)


def test_it_tells_what_it_runs_and_that_it_lives(vms: Vms) -> None:
    vm = told(vms, json.dumps(SPEC).encode())
    started(vms, vm)
    vms.lab.clock.advance(8)
    vms.lab.clock.advance(5)
    _, *lines = output(vms, vm)
    assert lines[:2] == [
        "shop: /bin/serve --port 80",
        "serve: as 1000:1000 in /srv, with PATH, KEY set",
    ]
    assert [line.startswith("serve: up for ") for line in lines[3:]] == [True, True]
    assert "secret" not in "".join(lines)


def test_its_end_comes_when_it_was_to_come(vms: Vms) -> None:
    vm = told(vms, json.dumps(SPEC).encode(), guest="exit=8")
    started(vms, vm)
    for _ in range(4):
        vms.lab.clock.advance(5)
    assert vms.state(vm) == "Halted"


@pytest.mark.parametrize(
    "document", [b"", b"\xff\xfe", b"[1]", b'{"argv": []}', b'{"argv": 1}', b'{"env": {}}', b"{"]
)
def test_a_disk_that_says_nothing_is_passed_over(vms: Vms, document: bytes) -> None:
    vm = told(vms, document)
    assert vms.lab.do(lambda lab: program_of(lab, lab.db.get("VM", vm))) is None


def test_another_disk_is_not_asked(vms: Vms) -> None:
    vm = told(vms, json.dumps(SPEC).encode(), device=2)
    assert vms.lab.do(lambda lab: program_of(lab, lab.db.get("VM", vm))) is None


def test_a_long_command_is_read_whole(vms: Vms) -> None:
    long = "x" * 2 * PIECE
    vm = told(vms, json.dumps({"argv": ["a", long]}).encode())
    found = vms.lab.do(lambda lab: program_of(lab, lab.db.get("VM", vm)))
    assert found == Program(("a", long))
