"""The storage backends of a pool: one lock per SR, space, contents, hidden bases.

What sm (xapi's storage manager) does below the calls: its operations on one SR run one at a time
and take a while (XAPI.md 2.4; sm FileSR.py, cleanup.py). Who has a disk open: `disk_locks`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.lab.attachments import Attachments
from deploy.lab.blocks import BLOCK, Blocks, Collected, Volume
from deploy.lab.database import Row
from deploy.lab.errors import XapiError
from deploy.lab.known_disks import KnownDisks
from deploy.lab.schema import NULL

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

MIB = 1024**2
HEADER = 12288
"""Bytes that an empty image takes."""
ALLOCATION = 2 * MIB
"""Virtual sizes are multiples of it."""
LARGEST_DISK = 67108860 * MIB
CHAIN_LIMIT = 30
TRANSFER = "dom0 "
"""How users of disks begin that are no VMs but work of a control domain."""
THICK = frozenset({"lvm", "lvmoiscsi", "lvmohba"})
"""SR types whose disks take their full size."""


@dataclass(frozen=True)
class StorageTimes:
    """How long the backends take, in seconds of lab time (near what was recorded)."""

    create: float = 0.05
    destroy: float = 0.04
    clone: float = 0.06
    snapshot: float = 0.08
    resize: float = 0.03
    copy: float = 0.4
    """A copy of an empty disk."""
    copy_rate: float = 200.0 * MIB
    """Bytes of data copied in a second."""
    attach: float = 0.01
    scan: float = 0.15
    update: float = 0.02
    sr_create: float = 0.1
    plug: float = 0.04
    upload: float = 0.2
    """What an upload or download takes beside its data."""
    coalesce: float = 60.0
    """From the end of the last reason for a hidden base until it is merged away."""


def backend_failure(number: int, text: str) -> XapiError:
    """How a backend's error reaches the client: SR_BACKEND_FAILURE_n ["", text, ""]."""
    return XapiError(f"SR_BACKEND_FAILURE_{number}", "", text, "")


def unavailable(reason: str) -> XapiError:
    return backend_failure(46, f"The VDI is not available [opterr={reason}]")


class Storage:
    """Belongs to one lab, as `lab.storage`."""

    def __init__(self, lab: Lab, *, kept: bool = False) -> None:
        self.lab = lab
        self.blocks = Blocks(kept=kept)
        self.attachments = Attachments(lab)
        self.known = KnownDisks(lab)
        self._locks: dict[str, asyncio.Lock] = {}
        self._grown: dict[str, int] = defaultdict(int)

    @property
    def times(self) -> StorageTimes:
        return self.lab.config.storage

    def lock(self, sr: str) -> asyncio.Lock:
        """The lock of an SR (by reference) that every operation of its backend takes."""
        return self._locks.setdefault(sr, asyncio.Lock())

    @asynccontextmanager
    async def working(self, sr: str, seconds: float) -> AsyncIterator[None]:
        """Be the one operation that the SR's backend carries out, for at least `seconds`."""
        async with self.lock(sr):
            await self.lab.clock.sleep(seconds)
            yield

    def check_told_to_fail(self, sr: Row, command: str) -> None:
        """A device_config key `fail_<command>` = number makes the backend refuse it so."""
        for pbd in self.lab.db.rows("PBD", sr.PBDs):
            check_told_to_fail(pbd.device_config, command)

    # --- space

    def size(self, sr: Row, vdi_size: int) -> int:
        """What an empty disk of that virtual size takes on the SR, in bytes."""
        return vdi_size if sr.type in THICK else HEADER

    def check_room(self, sr: Row, needed: int) -> None:
        """Raise SR_BACKEND_FAILURE_44 when the SR has not so many bytes left."""
        if self.free(sr) is not None and needed > (self.free(sr) or 0):
            raise backend_failure(44, "There is insufficient space")

    def free(self, sr: Row) -> int | None:
        """Bytes left; None when nobody knows how large the SR is."""
        if sr.physical_size < 0:
            return None
        used = max(sr.physical_utilisation, 0) + self._grown.get(sr.ref, 0)
        left: int = sr.physical_size - used
        return left

    def account(self, sr: Row, *, virtual: int = 0, physical: int = 0) -> None:
        """Add to what the SR's record says is allocated and used."""
        physical += self._grown.pop(sr.ref, 0)
        if sr.physical_utilisation >= 0:
            self.lab.db.update(
                sr,
                virtual_allocation=max(0, sr.virtual_allocation + virtual),
                physical_utilisation=max(0, sr.physical_utilisation + physical),
            )

    def recount(self, sr: Row) -> None:
        """Have the SR's record say what its disks and their bases take."""
        disks = self.lab.db.rows("VDI", sr.VDIs)
        managed = [vdi for vdi in disks if vdi.managed]
        bases = {
            base
            for vdi in managed
            if vdi.uuid in self.blocks.volumes
            for base in self.blocks.get(vdi.uuid).chain()
            if base.hidden
        }
        self._grown.pop(sr.ref, None)
        used = sum(self.physical(sr, vdi) for vdi in managed)
        self.lab.db.update(
            sr,
            virtual_allocation=sum(vdi.virtual_size for vdi in managed),
            physical_utilisation=used + sum(base.allocated for base in bases),
        )

    # --- contents

    def read(self, vdi: Row, offset: int, length: int) -> bytes:
        return self.blocks.read(vdi.uuid, offset, length)

    def write(self, vdi: Row, offset: int, data: bytes) -> None:
        """Write to a disk. Raises VDI_IO_ERROR when the SR is full or the disk ends before."""
        sr = self.lab.db.get("SR", vdi.SR)
        if offset + len(data) > vdi.virtual_size:
            raise XapiError("VDI_IO_ERROR", "Device I/O errors")
        free = self.free(sr)
        full = free is not None and free < len(data)
        if full and sr.type not in THICK and data.strip(b"\0"):
            raise XapiError("VDI_IO_ERROR", "Device I/O errors")
        grown = self.blocks.write(vdi.uuid, offset, data)
        if sr.type not in THICK:
            self._grown[sr.ref] += grown

    def zero(self, vdi: Row, offset: int, length: int) -> None:
        """Make a part of a disk zeros, which takes no space."""
        grown = self.blocks.zero(vdi.uuid, offset, length)
        if self.lab.db.get("SR", vdi.SR).type not in THICK:
            self._grown[vdi.SR] += grown

    def used_chunks(self, vdi: Row, size: int) -> set[int]:
        """The numbers of the chunks of so many bytes (a multiple of a block) that hold data."""
        return {number * BLOCK // size for number in self.blocks.used_blocks(vdi.uuid)}

    def settle(self, vdi: Row) -> None:
        """Have the records say what writing has used."""
        sr = self.lab.db.get("SR", vdi.SR)
        self.account(sr)
        self.lab.db.update(vdi, physical_utilisation=self.physical(sr, vdi))

    def physical(self, sr: Row, vdi: Row) -> int:
        if sr.type in THICK:
            return int(vdi.virtual_size)
        if sr.type in ("iso", "udev"):
            return int(vdi.physical_utilisation)
        volume = self.blocks.volumes.get(vdi.uuid)
        return HEADER + (volume.allocated if volume is not None else 0)

    # --- chains

    def branch(self, vdi: Row, new: str) -> str:
        """Make the volume `new` (a uuid) a copy-on-write copy of the disk; answers its base's uuid.

        Raises SR_BACKEND_FAILURE_109 when the chain has the greatest length.
        """
        volume = self.blocks.get(vdi.uuid)
        if volume.depth >= CHAIN_LIMIT:
            raise backend_failure(109, "The snapshot chain is too long")
        base = self.blocks.branch(vdi.uuid, new, str(uuid.uuid4()))
        parent = self.blocks.get(new).parent
        assert parent is not None
        if base is not None:
            sr = self.lab.db.get("SR", vdi.SR)
            if sr.type in THICK:
                self.account(sr, physical=base.allocated)
            self.lab.db.update(vdi, physical_utilisation=self.physical(sr, vdi))
            self._show_base(vdi, base)
        return parent.id

    def freeze(self, vdi: Row) -> None:
        """Make what the disk holds now its base, above which a boot starts anew."""
        scratch = str(uuid.uuid4())
        parent = self.branch(vdi, scratch)
        self.blocks.remove(scratch)
        self.blocks.get(vdi.uuid).pinned = True
        self.lab.db.update(vdi, sm_config={**vdi.sm_config, "vhd-parent": parent})

    def copy_contents(self, source: Row, target: Row) -> None:
        """Write all of one disk into another."""
        sr = self.lab.db.get("SR", target.SR)
        before = self.physical(sr, target)
        self.blocks.copy(source.uuid, target.uuid)
        self.account(sr, physical=self.physical(sr, target) - before)
        self.lab.db.update(target, physical_utilisation=self.physical(sr, target))

    def _show_base(self, vdi: Row, base: Volume) -> None:
        if not self.lab.config.base_copies:
            return
        db = self.lab.db
        db.create(
            "VDI",
            uuid=base.id,
            name_label="base copy",
            SR=vdi.SR,
            virtual_size=vdi.virtual_size,
            physical_utilisation=HEADER + base.allocated,
            type=vdi.type,
            read_only=True,
            managed=False,
            location=base.id,
            sm_config={"vhd-blocks": ""} | ({"vhd-parent": base.parent.id} if base.parent else {}),
        )

    def dropped(self, sr: Row, volume: str) -> None:
        """A disk is gone: forget its contents and, after a while, bases that nobody needs."""
        found = self.blocks.volumes.get(volume)
        parent = found.parent if found is not None else None
        self.blocks.remove(volume)
        if parent is not None:
            self.lab.spawn(self._coalesce(sr, parent))

    async def _coalesce(self, sr: Row, base: Volume) -> None:
        await self.lab.clock.sleep(self.times.coalesce)
        async with self.lock(sr.ref):
            if self.lab.db.find("SR", sr.ref) is None:
                return
            for gone in self.blocks.collect(base):
                kept = 0 if sr.type in THICK else gone.grown
                self.account(sr, physical=kept - gone.size)
                self._hide_base(sr, gone)

    def _hide_base(self, sr: Row, gone: Collected) -> None:
        """Take a merged base from the database, and tell its heir of its new parent."""
        base, heir = self._row(gone.id), self._row(gone.heir)
        if base is not None:
            self.lab.db.delete(base)
        if heir is None:
            return
        parent = self.blocks.get(gone.heir).parent
        rest = {key: value for key, value in heir.sm_config.items() if key != "vhd-parent"}
        link = {"vhd-parent": parent.id} if parent is not None else {}
        used = self.physical(sr, heir)
        self.lab.db.update(heir, sm_config={**rest, **link}, physical_utilisation=used)

    def _row(self, volume: str) -> Row | None:
        return self.lab.db.find("VDI", self.lab.db.tables["VDI"].by_uuid.get(volume, NULL))

    # --- keeping

    def restore(
        self, described: dict[str, Any] | None, blocks: Iterable[tuple[str, int, bytes]]
    ) -> None:
        """Become what `describe` and the stored blocks say; transfers under way are over."""
        if described is None:
            return
        self.blocks.restore(described["chains"], blocks)
        self.known.restore(described["known"])
        self.attachments.restore(
            [kept for kept in described["attachments"] if not kept[-1].startswith(TRANSFER)]
        )
        for host in self.lab.db.all("host"):
            dom0 = self.lab.db.find("VM", host.control_domain)
            for vbd in self.lab.db.rows("VBD", dom0.VBDs if dom0 is not None else []):
                self.lab.db.delete(vbd)

    def describe(self) -> dict[str, Any]:
        """What a saved lab needs beside its database and the stored blocks."""
        return {
            "chains": self.blocks.describe(),
            "attachments": self.attachments.describe(),
            "known": self.known.describe(),
        }


def check_told_to_fail(device_config: dict[str, str], command: str) -> None:
    number = device_config.get(f"fail_{command}")
    if number is not None and number.isdecimal():
        raise backend_failure(int(number), f"simulated failure of {command}")


def used_bytes(lab: Lab, vdi: Row) -> int:
    """Bytes of data that reading the whole disk would find."""
    return BLOCK * len(lab.storage.blocks.used_blocks(vdi.uuid))
