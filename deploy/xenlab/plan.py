"""Names, addresses and files of a lab and its hosts: what can be said before anything runs.

A lab's network lives in a network namespace of its own, so that labs side by side may use the same
addresses, and a state saved from one fits another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deploy.xenlab.errors import XenlabError

NETWORK = "10.77.0"
GATEWAY = f"{NETWORK}.1"
BRIDGE = "lab0"
AGENT_PORT = 7700
MOST_HOSTS = 40


@dataclass(frozen=True)
class HostPlan:
    """One emulated machine."""

    number: int
    folder: Path

    @property
    def name(self) -> str:
        return f"host{self.number}"

    @property
    def address(self) -> str:
        """dom0's own, on the lab's bridge."""
        return f"{NETWORK}.{10 + self.number}"

    @property
    def mac(self) -> str:
        return f"52:54:00:77:00:{10 + self.number:02x}"

    @property
    def tap(self) -> str:
        return f"tap{self.number}"

    @property
    def overlay(self) -> Path:
        """What the host wrote to its disk."""
        return self.folder / f"{self.name}.qcow2"

    @property
    def control_socket(self) -> Path:
        """QEMU's, speaking QMP."""
        return self.folder / f"{self.name}.qmp"

    @property
    def serial_log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"


@dataclass(frozen=True)
class LabPlan:
    """A lab: `folder` holds what runs, `image` what it starts from."""

    name: str
    folder: Path
    image: Path
    hosts: tuple[HostPlan, ...]
    memory_mib: int = 1536
    dom0_memory_mib: int = 384
    cpus: int = 2

    @property
    def state(self) -> Path:
        """The folder that `plan` was given."""
        return self.folder.parents[1]

    @property
    def namespace(self) -> str:
        """The network namespace."""
        return f"xl-{self.name}"

    @property
    def snapshots(self) -> Path:
        """Saved states of booted hosts; they fit any lab of the same image."""
        return self.image / "states"


def plan(
    state: Path,
    *,
    name: str = "lab",
    hosts: int | None = None,
    image: Path | None = None,
    memory: int = 1536,
) -> LabPlan:
    """A lab below the folder `state`; raises XenlabError `bad_name`, `bad_hosts`.

    Without a number of hosts: those the lab has, or two for a new one.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", name):
        raise XenlabError("bad_name", f"a lab's name is 1-20 of a-z, 0-9 and '-', not {name!r}")
    state = state.absolute()
    folder = state / "labs" / name
    hosts = hosts or len(list(folder.glob("host*.qcow2"))) or 2
    if not 1 <= hosts <= MOST_HOSTS:
        raise XenlabError("bad_hosts", f"a lab has 1 to {MOST_HOSTS} hosts, not {hosts}")
    return LabPlan(
        name=name,
        folder=folder,
        image=(image or state / "image").absolute(),
        hosts=tuple(HostPlan(number, folder) for number in range(1, hosts + 1)),
        memory_mib=memory,
    )
