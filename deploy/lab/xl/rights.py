"""Who may use which disk: the lab's disk locks, enforced on what hosts really read and write.

A host may use a disk while it has the disk open and its own key in the disk's sm_config
(`disk_locks`). Both end at once when it loses power; the key alone when the pool believes it dead.
While a domain moves, both its hosts are connected. The right to write passes at the target's first
write: the domain runs there then, and whatever the source still sends is a stale copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.lab.attachments import Mode
from deploy.lab.database import Row
from deploy.lab.disk_locks import lock_key
from deploy.lab.errors import XapiError
from deploy.lab.nbd.exports import Refused, Unknown
from deploy.lab.nbd.protocol import Error, NbdError

if TYPE_CHECKING:
    from deploy.lab.lab import Lab
    from deploy.lab.machine import Machine


@dataclass
class _Move:
    source: Machine
    target: Machine
    mode: Mode
    passed: bool = False
    """The target writes now."""


class Rights:
    """All disks of the pool, as exports named by their uuids. `machine_at` knows addresses."""

    def __init__(self, lab: Lab, machine_at: Callable[[str], Machine | None]) -> None:
        self.lab = lab
        self._machine_at = machine_at
        self._cut: set[Machine] = set()
        self._moves: dict[str, _Move] = {}

    # --- exports

    def names(self, client: str) -> list[str]:
        machine = self._machine_at(client)
        rows = self.lab.db.all("VDI") if machine is not None else []
        return [vdi.uuid for vdi in rows if machine and self.mode(machine, vdi) is not None]

    def open(self, name: str, client: str) -> Disk:
        machine, vdi = self._machine_at(client), self.find(name)
        if vdi is None:
            raise Unknown(f"there is no disk {name}")
        if machine is None:
            raise Refused(f"{client} is no host of the pool")
        mode = self.mode(machine, vdi)
        if mode is None:
            raise Refused(f"{machine.name} has not attached {name}")
        return Disk(self, machine, name, vdi.virtual_size, mode == "RO")

    def find(self, uuid: str) -> Row | None:
        ref = self.lab.db.tables["VDI"].by_uuid.get(uuid)
        return self.lab.db.find("VDI", ref) if ref is not None else None

    # --- rights

    def mode(self, machine: Machine, vdi: Row) -> Mode | None:
        """How the machine may use the disk now; None when it may not."""
        if machine in self._cut or not machine.powered:
            return None
        move = self._moves.get(vdi.uuid)
        if move is not None and machine is move.source:
            return move.mode
        held = vdi.sm_config.get(lock_key(machine))
        opened = self.lab.storage.attachments.mode(machine, vdi.uuid)
        if held is None or opened is None:
            return None
        return "RW" if held == opened == "RW" else "RO"

    def check_read(self, machine: Machine, uuid: str) -> Row:
        """The disk. Raises NbdError when the machine may not use it."""
        vdi = self.find(uuid)
        if vdi is None or self.mode(machine, vdi) is None:
            raise NbdError(Error.EPERM, f"{machine.name} may not use {uuid}")
        return vdi

    def check_write(self, machine: Machine, uuid: str) -> Row:
        """The disk, which from now on no other machine writes. Raises NbdError."""
        vdi = self.check_read(machine, uuid)
        if self.mode(machine, vdi) != "RW":
            raise NbdError(Error.EPERM, f"{machine.name} may not write {uuid}")
        move = self._moves.get(uuid)
        if move is not None and machine is move.source and move.passed:
            raise NbdError(Error.EPERM, f"{uuid} is written on {move.target.name} now")
        if move is not None and machine is move.target:
            move.passed = True
        return vdi

    @contextmanager
    def moving(self, disks: dict[str, Mode], source: Machine, target: Machine) -> Iterator[None]:
        """Let the source go on with the disks (uuids) until the target writes or this ends."""
        self._moves |= {uuid: _Move(source, target, mode) for uuid, mode in disks.items()}
        try:
            yield
        finally:
            for uuid in disks:
                self._moves.pop(uuid, None)

    def cut(self, machine: Machine) -> None:
        """From now on the machine has no right to anything."""
        self._cut.add(machine)

    def admit(self, machine: Machine) -> None:
        """It was off for certain: it may have rights again."""
        self._cut.discard(machine)


@dataclass(frozen=True)
class Disk:
    """A disk as one machine uses it; its right to it is looked at with every request."""

    rights: Rights
    machine: Machine
    uuid: str
    size: int
    read_only: bool

    def read(self, offset: int, length: int) -> bytes:
        vdi = self.rights.check_read(self.machine, self.uuid)
        return self.rights.lab.storage.read(vdi, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        vdi = self.rights.check_write(self.machine, self.uuid)
        try:
            self.rights.lab.storage.write(vdi, offset, data)
        except XapiError as error:
            raise NbdError(Error.ENOSPC, "the storage repository is full") from error

    def zero(self, offset: int, length: int, *, keep: bool) -> None:
        vdi = self.rights.check_write(self.machine, self.uuid)
        self.rights.lab.storage.zero(vdi, offset, length)

    def flush(self) -> None:
        """Nothing is held back: the store is the lab's, and lasts as long as its state does."""
        self.rights.check_read(self.machine, self.uuid)
