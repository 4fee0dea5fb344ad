"""One host's power: on, off (truly), reset; and its state, saved and resumed.

`off` cuts the network first, so that nothing of a dying host reaches a disk, and is true only when the
process is gone and this machine holds no connection with the host.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from deploy.xenlab import namespace, qemu
from deploy.xenlab.commands import run
from deploy.xenlab.errors import XenlabError
from deploy.xenlab.image import Image
from deploy.xenlab.plan import HostPlan, LabPlan
from deploy.xenlab.qmp import Qmp

START = 30.0
STOP = 10.0
STATE = 120.0


class Machine:
    """An emulated machine of a lab."""

    def __init__(self, plan: LabPlan, host: HostPlan) -> None:
        self.plan = plan
        self.host = host

    def pid(self) -> int | None:
        """QEMU's process id, None when it does not run."""
        try:
            pid = int(self.host.pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (OSError, ValueError):
            return None
        # A number may have been given to another process since.
        return None if ended or str(self.host.pid_file).encode() not in words else pid

    def is_on(self) -> bool:
        """Whether the machine has power."""
        return self.pid() is not None

    def power_on(self, *, fresh: bool = False) -> None:
        """Boots the machine; does nothing when it is on. `fresh` forgets what it wrote to its disk."""
        if not self.is_on():
            if fresh or not self.host.overlay.exists():
                self._blank_disk()
            self._start(incoming=False)

    def power_off(self) -> None:
        """Cuts the power. Returns only when the machine is off, else raises XenlabError `still_on`."""
        namespace.set_cable(self.plan, self.host.tap, plugged=False)
        if (pid := self.pid()) is not None:
            os.kill(pid, signal.SIGKILL)
        _await(lambda: not self.is_on(), STOP, f"{self.host.name} is still on after SIGKILL")
        namespace.end_connections(self.plan, self.host.address)
        _await(
            lambda: namespace.connections(self.plan, self.host.address) == 0,
            STOP,
            f"connections with {self.host.name} are left",
        )
        for file in (self.host.pid_file, self.host.control_socket):
            file.unlink(missing_ok=True)

    def reset(self) -> None:
        """The reset button; starts a machine that is off."""
        if self.is_on():
            self.power_off()
        self.power_on()

    def save(self) -> None:
        """Writes the running machine's state into the image's folder and turns it off."""
        states = self.plan.snapshots
        states.mkdir(parents=True, exist_ok=True)
        state, overlay = self._state_files()
        unfinished = state.with_suffix(".part")
        overlay.unlink(missing_ok=True)
        with Qmp(self.host.control_socket, timeout=30) as control:
            control.call("stop")
            control.call("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            control.call("migrate", uri=f"exec:zstd -1 -q -T2 > {unfinished}")
            control.await_migration(timeout=STATE)
        self.power_off()
        shutil.copyfile(self.host.overlay, overlay)
        unfinished.rename(state)
        _state_mark(self.plan, self.host).write_text(_fits(self.plan))

    def has_saved_state(self) -> bool:
        """Whether a state was saved that fits today's image and QEMU."""
        mark = _state_mark(self.plan, self.host)
        return all(
            file.exists() for file in (*self._state_files(), mark)
        ) and mark.read_text() == _fits(self.plan)

    def resume(self) -> None:
        """Starts the machine from its saved state."""
        state, overlay = self._state_files()
        self.host.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(overlay, self.host.overlay)
        self._start(incoming=True)
        with Qmp(self.host.control_socket, timeout=30) as control:
            control.call("migrate-incoming", uri=f"exec:zstd -dq < {state}")
            control.await_migration(timeout=STATE)
            # The state was saved from a stopped machine.
            control.call("cont")

    def serial_tail(self, lines: int = 15) -> str:
        """The end of what the machine wrote to its serial port."""
        try:
            text = self.host.serial_log.read_text(errors="replace")
        except FileNotFoundError:
            return "(nothing)"
        return "\n".join(text.splitlines()[-lines:])

    def _start(self, *, incoming: bool) -> None:
        self.host.serial_log.unlink(missing_ok=True)
        namespace.set_cable(self.plan, self.host.tap, plugged=True)
        command = qemu.command(self.plan, self.host, incoming=incoming)
        run(["ip", "netns", "exec", self.plan.namespace, *command], timeout=START)

    def _blank_disk(self) -> None:
        self.host.folder.mkdir(parents=True, exist_ok=True)
        self.host.overlay.unlink(missing_ok=True)
        form = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
        run([*form, "-b", Image(self.plan.image).disk, self.host.overlay], timeout=START)

    def _state_files(self) -> tuple[Path, Path]:
        states = self.plan.snapshots
        return states / f"{self.host.name}.state", states / f"{self.host.name}.qcow2"


def _state_mark(plan: LabPlan, host: HostPlan) -> Path:
    return plan.snapshots / f"{host.name}.fits"


def _fits(plan: LabPlan) -> str:
    """What a state depends on: image, QEMU, the machine's shape, and how it was booted."""
    version = run([qemu.PROGRAM, "--version"], timeout=10).splitlines()[0]
    shape = f"{plan.memory_mib} MiB, {plan.cpus} of {qemu.PROCESSOR}"
    arguments = f"{qemu.hypervisor(plan)}\n{qemu.LINUX}"
    return f"{Image(plan.image).stamp}{version}\n{shape}\n{arguments}\n"


def _await(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise XenlabError("still_on", otherwise)
        time.sleep(0.02)
