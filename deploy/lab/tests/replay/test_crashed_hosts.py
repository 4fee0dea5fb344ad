"""A recording in which a host loses its power, played on the lab: what was seen must come out.

The answers are those of the real daemon (host failure without HA: VMs are not given up by
themselves, calls wait for the host, an operator declares it dead).
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from deploy.lab.replay import player as player_module
from deploy.lab.replay import pools
from deploy.lab.replay.player import Player
from deploy.lab.replay.pools import fresh_lab
from deploy.lab.replay.recording import Recording
from deploy.lab.samples import MIB, vm_record


def call(method: str, *args: Any, **more: Any) -> dict[str, Any]:
    return {"via": "xmlrpc", "host": "h1", "call": method, "args": ["<session>", *args], **more}


def make(name: str, label: str) -> dict[str, Any]:
    record = vm_record(label, memory=256 * MIB, vcpus=1)
    return call("VM.create", record, result=name, seconds=0.05)


def start(name: str) -> dict[str, Any]:
    return call("VM.start_on", name, "<host:h3>", False, False, result="", seconds=0.44)


LIVE: dict[str, Any] = {"live": True}
CANNOT = ["CANNOT_CONTACT_HOST", "<host:h3>"]
STEPS: list[dict[str, Any]] = [
    make("<VM:1>", "a"),
    make("<VM:2>", "b"),
    start("<VM:1>"),
    start("<VM:2>"),
    {"via": "control", "action": "crash_host", "host": "h3", "note": "power cut"},
    call("VM.get_power_state", "<VM:1>", result="Running", seconds=0.0),
    call("host_metrics.get_record", "<host_metrics:h3>", result=LIVE, partial=True, seconds=0.0),
    call("VM.clean_shutdown", "<VM:1>", error=CANNOT, seconds=144.74),
    call("VM.hard_shutdown", "<VM:1>", error=CANNOT, seconds=130.92),
    call("VM.power_state_reset", "<VM:1>", result="", seconds=3.17),
    call("VM.get_power_state", "<VM:1>", result="Halted", seconds=0.0),
    call("VM.get_resident_on", "<VM:1>", result="OpaqueRef:NULL", seconds=0.0),
    call("host.declare_dead", "<host:h3>", result="", seconds=20.05),
    call("VM.get_power_state", "<VM:2>", result="Halted", seconds=0.0),
    call("host.get_enabled", "<host:h3>", result=False, seconds=0.0),
    call("VM.start", "<VM:2>", False, False, result="", seconds=0.38),
    call(
        "VM.start_on",
        "<VM:2>",
        "<host:h3>",
        False,
        False,
        error=["VM_BAD_POWER_STATE", "<VM:2>", "halted", "running"],
        seconds=0.04,
    ),
    {
        "via": "wait",
        "call": "host_metrics.get_live",
        "args": ["<session>", "<host_metrics:h3>"],
        "until": [False],
        "result": False,
    },
    call("VM.hard_shutdown", "<VM:2>", result="", seconds=0.04),
    call("VM.destroy", "<VM:2>", result="", seconds=0.0),
    call("VM.destroy", "<VM:1>", result="", seconds=0.0),
]
BINDS = ("<host:h1>", "<host:h2>", "<host:h3>", "<host_metrics:h3>")


def test_a_recording_with_a_crashed_host_plays_as_recorded_and_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(player_module, "PATIENCE", 0.8)
    monkeypatch.setattr(pools, "PATIENCE", 0.8)
    recording = Recording("host_crash", "a host loses its power", BINDS, tuple(STEPS))
    began = time.monotonic()
    with fresh_lab(sides=True) as pool:
        played = Player(recording, pool).play()
    assert [(step.call, step.differences) for step in played.steps if not step.agrees] == []
    assert played.remarks == []
    assert time.monotonic() - began < 60.0


@pytest.mark.parametrize(
    "said",
    [
        {"call": "crash_host", "args": ["h3"]},
        {"crash_host": "<host:h3>"},
        {"do": "crash_host h3"},
        {"action": "crash_host", "name": "h3", "seconds": 0.1},
    ],
)
def test_a_power_cut_is_understood_however_it_is_said(said: dict[str, Any]) -> None:
    class Noted:
        rate = 1.0
        done: list[tuple[str, str]] = []

        def control(self, action: str, host: str) -> None:
            self.done.append((action, host))

    player = Player(Recording("a", "", (), ()), Noted())  # type: ignore[arg-type]
    Noted.done.clear()
    assert player._control({"via": "control", **said}) == []
    assert Noted.done == [("crash_host", "h3")]
