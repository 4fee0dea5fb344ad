"""What each SR itself knows of its disks, whatever the database says.

The database can forget a disk (VDI.forget, SR.forget, an older copy of it becoming the pool's)
and can know one that is gone. A scan of the SR makes it say what is there.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

from deploy.lab.database import Row
from deploy.lab.operations import refresh

if TYPE_CHECKING:
    from deploy.lab.lab import Lab

_WRITTEN_BY_BACKENDS = (
    "uuid",
    "name_label",
    "name_description",
    "virtual_size",
    "physical_utilisation",
    "type",
    "read_only",
    "location",
    "managed",
    "is_a_snapshot",
    "sm_config",
)
DESTROYED_KEPT = 4096
SCAN_DELAY = 30.0
"""Seconds from a coordinator's start until it scans what it has plugged."""


class KnownDisks:
    """Belongs to one lab; kept by `Storage`. SRs and disks go by uuid."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._on: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._destroyed: OrderedDict[str, None] = OrderedDict()

    def remember(self, sr: Row, vdi: Row) -> None:
        """The SR has the disk, as its record describes it now."""
        self._on[sr.uuid][vdi.uuid] = {name: vdi.fields[name] for name in _WRITTEN_BY_BACKENDS}

    def destroyed(self, sr: Row, vdi: Row) -> None:
        self._on[sr.uuid].pop(vdi.uuid, None)
        self._destroyed[vdi.uuid] = None
        if len(self._destroyed) > DESTROYED_KEPT:
            self._destroyed.popitem(last=False)

    def erased(self, sr: Row) -> None:
        """The SR and all that was on it are gone."""
        self._on.pop(sr.uuid, None)

    def find(self, sr: Row, uuid: str, location: str) -> dict[str, Any] | None:
        """What the SR knows of a disk that the database has not; by uuid or location."""
        for name, fields in self._on[sr.uuid].items():
            unknown = name not in self.lab.db.tables["VDI"].by_uuid
            if unknown and (name == uuid or fields["location"] == location):
                return fields
        return None

    def scan(self, sr: Row) -> None:
        """Make the database's disks of the SR those that it has, and its figures their sum."""
        by_uuid = self.lab.db.tables["VDI"].by_uuid
        for uuid, fields in self._on[sr.uuid].items():
            if uuid not in by_uuid:
                vdi = self.lab.db.create("VDI", SR=sr.ref, **fields)
                refresh(self.lab, vdi)
        for vdi in self.lab.db.rows("VDI", sr.VDIs):
            if vdi.uuid in self._destroyed:
                for vbd in self.lab.db.rows("VBD", vdi.VBDs):
                    self.lab.db.delete(vbd)
                self.lab.db.delete(vdi)
        self.lab.storage.recount(sr)

    async def scan_all(self) -> None:
        """What a new coordinator does some time after its start: scan every plugged SR."""
        await self.lab.clock.sleep(SCAN_DELAY)
        for sr in self.lab.db.all("SR"):
            pbds = self.lab.db.rows("PBD", sr.PBDs)
            if any(pbd.currently_attached for pbd in pbds):
                async with self.lab.storage.working(sr.ref, self.lab.storage.times.scan):
                    self.scan(sr)

    def describe(self) -> dict[str, Any]:
        """What a saved lab needs beside its database: the disks that it does not name."""
        by_uuid = self.lab.db.tables["VDI"].by_uuid
        return {
            "forgotten": {
                sr: {uuid: fields for uuid, fields in disks.items() if uuid not in by_uuid}
                for sr, disks in self._on.items()
            },
            "destroyed": list(self._destroyed),
        }

    def restore(self, described: dict[str, Any]) -> None:
        for sr, disks in described["forgotten"].items():
            self._on[sr].update(disks)
        self._destroyed = OrderedDict.fromkeys(described["destroyed"])
        for row in self.lab.db.all("SR"):
            for vdi in self.lab.db.rows("VDI", row.VDIs):
                if vdi.managed:
                    self.remember(row, vdi)
