"""What a guest is told to run, for pools whose VMs have a disk that says so (`Config.config_disk`).

Such a disk begins with a JSON object, and zeros follow: `argv` (a list), and if it likes `hostname`, `env`,
`cwd` and `user`. Nothing of it is run. The guest tells on its console what it was told, and every few seconds
that it lives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.lab.database import Row
    from deploy.lab.lab import Lab

LONGEST = 1024 * 1024
PIECE = 64 * 1024
TELL_EVERY = 5.0
"""Seconds of lab time between two signs of life."""


@dataclass(frozen=True)
class Program:
    """What init would have started. Of the environment it tells the names alone."""

    argv: tuple[str, ...]
    hostname: str = ""
    cwd: str = "/"
    user: str = "root"
    env: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return PurePosixPath(self.argv[0]).name

    def opening(self) -> list[str]:
        """The first lines on the console."""
        return [
            f"{self.hostname or self.name}: {' '.join(self.argv)}",
            f"{self.name}: as {self.user} in {self.cwd}, with {', '.join(self.env) or 'nothing'} set",
            f"{self.name}: simulated, so nothing of it really runs",
        ]

    def sign_of_life(self, seconds: float) -> str:
        return f"{self.name}: up for {seconds:.0f} s"


BLANK_ARGUMENT = "bulkhead.blank"
"""A kernel that is started with it waits for its disks, however long."""
LOOK_EVERY = 0.25


def is_blank(vm: Row) -> bool:
    return BLANK_ARGUMENT in vm.PV_args.split()


async def root_disk(lab: Lab, vm: Row) -> None:
    """Until that is plugged, which a blank guest waits for."""
    while not any(
        vbd.currently_attached and vbd.userdevice == "0" for vbd in lab.db.rows("VBD", vm.VBDs)
    ):
        await lab.clock.sleep(LOOK_EVERY)


def program_of(lab: Lab, vm: Row) -> Program | None:
    """What the VM's config disk says; None where there is none, or nothing that makes sense."""
    for vbd in lab.db.rows("VBD", vm.VBDs):
        vdi = lab.db.find("VDI", vbd.VDI)
        if vdi is not None and vbd.userdevice == str(lab.config.config_disk):
            return _parse(_document(lab, vdi))
    return None


def _document(lab: Lab, vdi: Row) -> bytes:
    """The disk up to its first zero byte."""
    document = b""
    for offset in range(0, min(LONGEST, vdi.virtual_size), PIECE):
        head, zero, _ = lab.storage.read(vdi, offset, PIECE).partition(b"\0")
        document += head
        if zero:
            break
    return document


def _parse(document: bytes) -> Program | None:
    try:
        said: Any = json.loads(document)
    except ValueError:
        return None
    argv = said.get("argv") if isinstance(said, dict) else None
    if not isinstance(argv, list) or not argv:
        return None
    env = said.get("env")
    return Program(
        argv=tuple(map(str, argv)),
        hostname=str(said.get("hostname") or ""),
        cwd=str(said.get("cwd") or "/"),
        user=str(said.get("user") or "root"),
        env=tuple(env) if isinstance(env, dict) else (),
    )
